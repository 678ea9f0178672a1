"""The pipeline over the identity network: what goes in must come out, from every kind of photo."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image as PillowImage

from faceswap import (
    BundleError,
    DeviceError,
    Image,
    NoFaceError,
    NoSuchFaceError,
    NotAnImageError,
    Swapper,
    UnknownIdentityError,
    WrongCropSizeError,
)
from tests.faceswap.conftest import Edit
from tests.faceswap.pictures import encoded, rotated_by_exif

Photo = Callable[[str], Image]


def faces(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_opens_the_bundle(swapper: Swapper) -> None:
    assert swapper.identities == ("echo", "negative", "cutout")
    assert swapper.provider == "CPUExecutionProvider"
    assert swapper.manifest.name == "identity-network"
    swapper.warm_up()


def test_the_identity_network_gives_every_pixel_back(swapper: Swapper) -> None:
    every_level = np.arange(256, dtype=np.uint8).repeat(48).reshape(1, 64, 64, 3)
    crops = np.concatenate([faces(4), every_level])
    latents = swapper.encode(crops)
    assert latents.shape == (5, 48, 16, 16)
    assert latents.dtype == np.float32
    assert np.array_equal(swapper.decode(latents, "echo"), crops)
    assert np.array_equal(swapper.decode(latents, "negative"), 255 - crops)


def test_swap_gives_the_aligned_face_back(swapper: Swapper, photo: Photo) -> None:
    image = photo("a.jpg")
    crop = swapper.align(image, swapper.find_face(image))
    assert np.array_equal(swapper.swap(image, "echo").pixels, crop.pixels)
    assert np.array_equal(swapper.swap(image, "negative").pixels, 255 - crop.pixels)


def test_swap_takes_bytes_a_path_and_a_picture(swapper: Swapper, examples: Path, photo: Photo) -> None:
    path = examples / "a.jpg"
    expected = swapper.swap(photo("a.jpg"), "echo").pixels
    for given in (path, str(path), path.read_bytes()):
        assert np.array_equal(swapper.swap(given, "echo").pixels, expected)


def test_face_chooses_by_size(swapper: Swapper, photo: Photo) -> None:
    image = photo("two.jpg")
    first, second = (swapper.swap(image, "echo", face=index).pixels for index in (0, 1))
    assert np.array_equal(swapper.swap(image, "echo").pixels, first)
    assert first.mean() > second.mean() + 20  # the larger one has the lighter skin


def test_a_phone_photo_is_the_same_face(swapper: Swapper, photo: Photo) -> None:
    upright = PillowImage.fromarray(photo("a.jpg").pixels).resize((4032, 3024))
    data = rotated_by_exif(upright.transpose(PillowImage.Transpose.ROTATE_90), "JPEG", 6)
    swapped, expected = swapper.swap(data, "echo").pixels, swapper.swap(photo("a.jpg"), "echo").pixels
    assert correlation(swapped, expected) > 0.98


def test_a_bare_crop_goes_in_either_way(swapper: Swapper, photo: Photo) -> None:
    expected = swapper.swap(photo("a.jpg"), "echo").pixels
    crop = encoded(PillowImage.fromarray(expected), "PNG")
    assert correlation(swapper.swap(crop, "echo").pixels, expected) > 0.8
    ready = swapper.ready_crop(swapper.read(crop))
    assert np.array_equal(ready.pixels, expected)
    assert np.array_equal(ready.matrix, np.eye(2, 3))


def test_a_real_photo(swapper: Swapper, astronaut: np.ndarray) -> None:
    face = swapper.swap(Image(astronaut), "echo").pixels
    assert face.shape == (64, 64, 3)
    assert face[20:50, 20:44].std() > 20


def test_swap_photo_sets_the_face_back(swapper: Swapper, photo: Photo) -> None:
    image = photo("a.jpg")
    echo, negative = (swapper.swap_photo(image, name).pixels.astype(int) for name in ("echo", "negative"))
    assert echo.shape == image.pixels.shape
    assert np.abs(echo - image.pixels).mean() < 1
    assert np.abs(negative - image.pixels).mean() > 3
    same = (negative == image.pixels).all(axis=2)
    assert same[:100].all()
    assert 0.5 < same.mean() < 0.95


def test_a_face_comes_with_the_mask_that_its_decoder_made(swapper: Swapper) -> None:
    crops = faces(3)
    latents = swapper.encode(crops)
    cut, echo = swapper.decode_faces(latents, "cutout"), swapper.decode_faces(latents, "echo")
    assert np.array_equal(swapper.decode(latents, "cutout"), crops), "the mask is no part of the face"
    assert all(np.array_equal(face.pixels, crop) for face, crop in zip(cut, crops, strict=True))
    assert [face.mask for face in echo] == [None] * 3
    for face in cut:
        assert face.mask is not None
        assert face.mask.shape == (64, 64)
        assert (face.mask[:, :32] == 255).all() and (face.mask[:, 32:] == 0).all()


def test_a_pasted_face_leaves_the_photo_where_its_mask_is_0(swapper: Swapper, photo: Photo) -> None:
    image = photo("a.jpg")
    crop = swapper.align(image, swapper.find_face(image))
    (face,) = swapper.decode_faces(swapper.encode(crop.pixels[None]), "cutout")
    pasted = swapper.paste(image, crop, 255 - face.pixels, face.mask)
    y, x = np.nonzero((pasted.pixels != image.pixels).any(axis=2))
    across = np.stack([x + 0.5, y + 0.5], axis=1) @ crop.matrix[0, :2] + crop.matrix[0, 2]
    assert across.max() < 32 + 2, "in pixels of the crop, whose half is 32"
    assert 5 < across.min() < 20


def test_swap_photo_uses_the_mask_and_swap_does_not(swapper: Swapper, photo: Photo) -> None:
    image = photo("a.jpg")
    assert np.array_equal(swapper.swap(image, "cutout").pixels, swapper.swap(image, "echo").pixels)
    cut, echo = (swapper.swap_photo(image, name).pixels != image.pixels for name in ("cutout", "echo"))
    assert 0.2 < cut.any(axis=2).sum() / echo.any(axis=2).sum() < 0.7


@pytest.mark.parametrize("size", [(63, 64), (64, 65), (128, 128), (1, 1)])
def test_a_ready_crop_of_another_size_is_refused(swapper: Swapper, size: tuple[int, int]) -> None:
    width, height = size
    with pytest.raises(WrongCropSizeError, match=f"{width}x{height}"):
        swapper.ready_crop(Image(np.zeros((height, width, 3), np.uint8)))


def test_no_face(swapper: Swapper, photo: Photo) -> None:
    with pytest.raises(NoFaceError, match="larger, brighter, more frontal face, or crop=none"):
        swapper.swap(photo("no-face.jpg"), "echo")


@pytest.mark.parametrize("index", [2, 99, -1])
def test_no_such_face(swapper: Swapper, photo: Photo, index: int) -> None:
    with pytest.raises(NoSuchFaceError, match=f"face {index} was asked for, but the photo has"):
        swapper.swap(photo("two.jpg"), "echo", face=index)


def test_an_unknown_identity_is_refused_before_any_work(swapper: Swapper) -> None:
    for call in (swapper.swap, swapper.swap_photo):
        with pytest.raises(UnknownIdentityError):
            call(b"not even a picture", "nobody")
    with pytest.raises(UnknownIdentityError):
        swapper.decode(np.zeros((1, 48, 16, 16), np.float32), "nobody")
    with pytest.raises(NotAnImageError):
        swapper.swap(b"not even a picture", "echo")


@pytest.mark.parametrize(
    "crops",
    [
        faces(1)[:0],
        faces(1)[0],
        faces(1).astype(np.float32),
        faces(1)[..., :2],
        faces(1)[:, :32],
        faces(1).transpose(0, 3, 1, 2),
    ],
    ids=["empty", "no batch", "floats", "two channels", "half", "NCHW"],
)
def test_encode_refuses_other_batches(swapper: Swapper, crops: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        swapper.encode(crops)


def test_encode_takes_a_view(swapper: Swapper) -> None:
    crops = faces(3)
    assert np.array_equal(swapper.decode(swapper.encode(crops[::-2, :, ::-1]), "echo"), crops[::-2, :, ::-1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_decode_refuses_what_is_no_number(swapper: Swapper, value: float) -> None:
    latents = swapper.encode(faces(2))
    latents[1, 7, 3, 2] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        swapper.decode(latents, "echo")


def test_decode_refuses_other_batches(swapper: Swapper) -> None:
    latents = swapper.encode(faces(2))
    wrong: list[Any] = [latents[:0], latents[0], latents.astype(np.float64), latents[:, :8]]
    for batch in wrong:
        with pytest.raises(ValueError, match="expected float32"):
            swapper.decode(batch, "echo")


def test_threads_get_their_own_faces(swapper: Swapper) -> None:
    batches = [faces(1 + seed % 3, seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda crops: swapper.decode(swapper.encode(crops), "echo"), batches))
    assert all(np.array_equal(a, b) for a, b in zip(answers, batches, strict=True))


def test_decoders_are_loaded_on_first_use(identity_bundle: Path) -> None:
    swapper = Swapper.open(str(identity_bundle), "cpu", threads=1)
    assert swapper.decoders.loaded == []
    swapper.decode(swapper.encode(faces(1)), "negative")
    assert swapper.decoders.loaded == ["negative"]


def test_a_latent_shape_that_is_not_the_graphs_is_refused(
    bundle: Path, edit_manifest: Callable[[Edit], None]
) -> None:
    edit_manifest(lambda manifest: manifest["latent"].update(channels=12, height=32, width=32))
    with pytest.raises(BundleError, match=r"where the manifest needs .* float32 \(N, 12, 32, 32\)$"):
        Swapper.open(bundle, "cpu", threads=1)


def test_graphs_in_each_others_place_are_refused(bundle: Path, edit_manifest: Callable[[Edit], None]) -> None:
    edit_manifest(lambda manifest: manifest["encoder"].update(graph=manifest["identities"][0]["decoder"]))
    with pytest.raises(BundleError, match=r"echo-[0-9a-f]{8}\.onnx is float32 \(N, 48, 16, 16\) -> uint8"):
        Swapper.open(bundle, "cpu", threads=1)


def test_cuda_is_refused_where_it_is_not(identity_bundle: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(DeviceError, match="has no CUDA"):
        Swapper.open(identity_bundle, "cuda")
