"""Client and AsyncClient against a running service: what goes in comes out, what fails is a type."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

import faceswap_client as fc
from benchmarks.server import HOST, free_port
from service.errors import TABLE
from tests.service.fakes import photo

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(url: str) -> Iterator[fc.Client]:
    with fc.Client(url) as client:
        yield client


@pytest.fixture
async def async_client(url: str) -> AsyncIterator[fc.AsyncClient]:
    async with fc.AsyncClient(url) as client:
        yield client


def pixels(picture: fc.Result) -> np.ndarray:
    assert isinstance(picture, fc.Picture), picture
    return np.asarray(PillowImage.open(io.BytesIO(picture.data)).convert("RGB"))


def crop() -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(photo())))


def test_a_crop_comes_back_as_its_negative(client: fc.Client, tmp_path: Path) -> None:
    picture = client.swap(photo(), "negative", crop="none")
    assert np.array_equal(pixels(picture), 255 - crop())
    assert picture.save(tmp_path / "face.png").read_bytes() == picture.data
    assert (picture.media_type, picture.target, picture.face) == ("image/png", "negative", None)
    assert picture.digital_source_type.endswith("/trainedAlgorithmicMedia")
    assert picture.request_id and picture.milliseconds["encode"] >= 0
    assert len(repr(picture)) < 1000, "the bytes are not shown"


def test_a_path_a_file_and_bytes_are_the_same_photo(client: fc.Client, examples: Path) -> None:
    path = examples / "a.jpg"
    with path.open("rb") as file:
        ways: list[fc.Photo] = [path, str(path), file, path.read_bytes()]
        faces = [client.swap(way, "echo") for way in ways]
    assert len({face.data for face in faces}) == 1
    face = faces[0].face
    assert face is not None and 0 < face.left < face.right < 1 and face.score > 0.5


def test_wishes_reach_the_service(client: fc.Client, examples: Path) -> None:
    first = client.swap(examples / "two.jpg", "echo")
    second = client.swap(examples / "two.jpg", "echo", face=1, format="webp")
    assert first.face != second.face and second.media_type == "image/webp"
    whole = client.swap(examples / "a.jpg", "echo", output="photo", format="jpeg")
    assert whole.media_type == "image/jpeg"
    with PillowImage.open(examples / "a.jpg") as posted:
        assert pixels(whole).shape[:2] == posted.size[::-1]


def test_several_targets_come_one_by_one(client: fc.Client) -> None:
    results = list(client.swap_each(photo(), ["negative", "echo"], crop="none"))
    assert {result.target for result in results} == {"negative", "echo"}
    for result in results:
        assert np.array_equal(pixels(result), 255 - crop() if result.target == "negative" else crop())
    (only,) = client.swap_each(photo(), ["echo"], crop="none")
    assert np.array_equal(pixels(only), crop())


def test_a_batch_tells_of_each_photo_and_target(client: fc.Client) -> None:
    photos = [photo(grey=40), b"no picture", photo(grey=90)]
    results = {(r.image, r.target): r for r in client.batch(photos, ["echo", "negative"], crop="none")}
    assert set(results) == {(image, target) for image in range(3) for target in ("echo", "negative")}
    assert set(pixels(results[2, "negative"]).ravel()) == {165}
    broken = results[1, "echo"]
    assert isinstance(broken, fc.Failure)
    assert isinstance(broken.error, fc.PhotoError) and broken.error.slug == "not-an-image"


def test_a_batch_that_is_left_early_leaves_the_client_well(client: fc.Client) -> None:
    results = client.batch([photo(grey=grey) for grey in range(20, 60)], "echo", crop="none")
    next(results)
    results.close()
    assert client.ready()


def test_who_there_is_and_how_it_is(client: fc.Client) -> None:
    by_name = {identity.name: identity for identity in client.identities()}
    assert {"echo", "negative", "cutout"} == set(by_name)
    assert by_name["echo"].consent.kind == "synthetic"
    assert client.identity("echo").facts["crop_size"] == 64
    with_preview = [name for name, identity in by_name.items() if identity.has_preview]
    assert all(client.preview(name).startswith(b"\x89PNG") for name in with_preview)
    health = client.health()
    assert (health.status, set(health.identities)) == ("ready", set(by_name))
    assert client.ready()


async def test_the_async_client_does_the_same(async_client: fc.AsyncClient, examples: Path) -> None:
    faces = await asyncio.gather(
        *[async_client.swap(photo(grey=g), "negative", crop="none") for g in (9, 99)]
    )
    assert [set(pixels(face).ravel()) for face in faces] == [{246}, {156}]
    photos = [examples / "a.jpg", examples / "no-face.jpg"]
    results = {result.image: result async for result in async_client.batch(photos, "echo")}
    assert isinstance(results[0], fc.Picture)
    assert isinstance(results[1], fc.Failure) and isinstance(results[1].error, fc.NoFaceError)
    each = [
        result.target async for result in async_client.swap_each(photo(), ["echo", "cutout"], crop="none")
    ]
    assert sorted(each) == ["cutout", "echo"]
    assert {identity.name for identity in await async_client.identities()} == {"echo", "negative", "cutout"}
    assert (await async_client.identity("echo")).licence
    assert (await async_client.health()).status == "ready" and await async_client.ready()


def test_refusals_are_types(client: fc.Client, examples: Path) -> None:
    with pytest.raises(fc.NoFaceError) as no_face:
        client.swap(examples / "no-face.jpg", "echo")
    assert no_face.value.slug == "no-face" and no_face.value.request_id
    with pytest.raises(fc.UnknownIdentityError) as unknown:
        client.swap(photo(), "nobody", crop="none")
    assert set(unknown.value.known) == {"echo", "negative", "cutout"}
    with pytest.raises(fc.ParameterError) as wrong:
        client.swap(photo(), "echo", face=1000)
    assert wrong.value.errors[0]["name"] == "face"
    with pytest.raises(fc.PhotoError):
        client.swap(b"no picture", "echo")
    with pytest.raises(fc.UnknownIdentityError):
        list(client.batch([photo()], "nobody"))
    with pytest.raises(OSError, match=r"gone\.jpg"):
        client.swap("gone.jpg", "echo")


def test_every_problem_of_the_service_has_a_fitting_class() -> None:
    """A 4xx that no class of its own fits stays a ProblemError; those are listed here."""
    plain = {
        "bad-multipart", "no-preview", "not-found", "method-not-allowed", "unsupported-body",
        "reload-running", "reload-refused", "client-gone", "unsupported-encoding", "body-made-room",
        "head-timeout", "unknown-version", "bad-encoding", "bad-tensor",
    }  # fmt: skip
    for kind in TABLE.values():
        error = fc.errors.problem_error({"type": kind.type, "status": kind.status, "title": kind.title})
        assert (type(error) is fc.ProblemError) == (kind.slug in plain), kind.slug
        assert isinstance(error, fc.BusyError) == (kind.status in (429, 503, 504)), kind.slug


async def test_nobody_there_is_unreachable() -> None:
    nobody = f"http://{HOST}:{free_port()}"
    with fc.Client(nobody, retries=fc.NEVER) as client:
        assert not client.ready()
        with pytest.raises(fc.UnreachableError):
            client.health()
    async with fc.AsyncClient(nobody, retries=fc.NEVER) as other:
        assert not await other.ready()
        with pytest.raises(fc.UnreachableError):
            await other.swap(photo(), "echo")
        with pytest.raises(fc.UnreachableError):
            async with other.stream("echo"):
                pass
