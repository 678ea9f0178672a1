"""read_image and write_image: every mode and format, EXIF, limits, damage, the synthetic mark."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from faceswap import (
    DigitalSource,
    Image,
    ImageFormat,
    ImageTooLargeError,
    NotAnImageError,
    TruncatedImageError,
    read_image,
    write_image,
)
from tests.faceswap.pictures import encoded, png, quarters, rotated_by_exif

CORNERS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def corners(image: Image) -> list[str]:
    """Names of the colours top left, top right, bottom left, bottom right."""
    pixels = image.pixels.astype(int)
    four = (pixels[2, 2], pixels[2, -3], pixels[-3, 2], pixels[-3, -3])
    return [min(CORNERS, key=lambda name: np.abs(value - CORNERS[name]).sum()) for value in four]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_reads_each_format(format: str) -> None:
    image = read_image(encoded(quarters(), format))
    assert image.pixels.shape == (24, 40, 3)
    assert image.pixels.dtype == np.uint8
    assert corners(image) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_reads_each_colour_mode(mode: str, format: str) -> None:
    image = read_image(encoded(quarters().convert(mode), format))
    assert corners(image) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_reads_each_grey_mode(mode: str) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, 4:] = 255
    image = read_image(encoded(PillowImage.fromarray(pixels).convert(mode), "PNG"))
    assert np.array_equal(image.pixels, np.repeat(pixels[..., None], 3, axis=2))


def test_reads_cmyk_jpeg() -> None:
    image = read_image(encoded(quarters().convert("CMYK"), "JPEG"))
    assert corners(image) == ["red", "green", "blue", "white"]


def test_scales_16_bit_grey() -> None:
    levels = np.array([[0, 0x1234, 0x80FF, 0xFFFF]], np.uint16)
    image = read_image(encoded(PillowImage.fromarray(levels), "PNG"))
    assert image.pixels[0, :, 0].tolist() == [0, 0x12, 0x80, 0xFF]
    assert (image.pixels[..., 0] == image.pixels[..., 2]).all()


def test_scales_16_bit_colour() -> None:
    row = b"\0" + np.array([0xFF00, 0x8000, 0x0100], ">u2").tobytes() * 2
    image = read_image(png(2, 1, 16, 2, row))
    assert image.pixels.tolist() == [[[255, 128, 1]] * 2]


def test_transparent_parts_turn_white() -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    image = read_image(encoded(PillowImage.fromarray(pixels, "RGBA"), "PNG"))
    assert image.pixels[0, 0].tolist() == [10, 20, 30]
    assert image.pixels[0, 1].tolist() == [255, 255, 255]
    assert image.pixels[0, 2].tolist() == [127, 127, 127]


def test_a_transparent_palette_colour_turns_white() -> None:
    picture = PillowImage.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 200, 0, 0])
    picture.putdata([0, 1])
    image = read_image(encoded(picture, "PNG", transparency=0))
    assert image.pixels.tolist() == [[[255, 255, 255], [200, 0, 0]]]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_upright_by_exif(format: str, orientation: int) -> None:
    # By EXIF 2.32: where row 0 and column 0 of the file lie in the upright picture.
    undo = {
        1: [],
        2: [PillowImage.Transpose.FLIP_LEFT_RIGHT],
        3: [PillowImage.Transpose.ROTATE_180],
        4: [PillowImage.Transpose.FLIP_TOP_BOTTOM],
        5: [PillowImage.Transpose.TRANSPOSE],
        6: [PillowImage.Transpose.ROTATE_90],
        7: [PillowImage.Transpose.TRANSVERSE],
        8: [PillowImage.Transpose.ROTATE_270],
    }
    stored = quarters()
    for step in undo[orientation]:
        stored = stored.transpose(step)
    image = read_image(rotated_by_exif(stored, format, orientation))
    assert (image.width, image.height) == (40, 24)
    assert corners(image) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_is_ignored(orientation: int) -> None:
    image = read_image(rotated_by_exif(quarters(), "JPEG", orientation))
    assert corners(image) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_read(format: str) -> None:
    later = [PillowImage.new("RGB", (40, 24), colour) for colour in ("black", "yellow")]
    data = encoded(quarters(), format, save_all=True, append_images=later, duration=50)
    assert corners(read_image(data)) == ["red", "green", "blue", "white"]


def test_a_phone_jpeg_with_a_second_picture_inside_is_read() -> None:
    data = encoded(quarters(), "MPO", save_all=True, append_images=[PillowImage.new("RGB", (40, 24))])
    assert corners(read_image(data)) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100, b"hello, this is text", b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
    ids=["empty", "zeros", "text", "svg"],
)
def test_refuses_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(NotAnImageError):
        read_image(data)


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF"])
def test_refuses_other_formats(format: str) -> None:
    with pytest.raises(NotAnImageError):
        read_image(encoded(quarters(), format))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_refuses_truncated_files(examples: Path, format: str, share: float) -> None:
    with PillowImage.open(examples / "a.jpg") as picture:
        data = encoded(picture.resize((120, 90)), format)
    with pytest.raises(TruncatedImageError):
        read_image(data[: int(len(data) * share)])


def test_refuses_damaged_pixel_data() -> None:
    data = bytearray(encoded(quarters(), "PNG"))
    start = data.index(b"IDAT") + 4
    data[start : start + 4] = b"\xff" * 4
    with pytest.raises(TruncatedImageError):
        read_image(bytes(data))


@pytest.mark.parametrize("side", [9_000, 10_000, 20_000], ids=["81 Mpx", "100 Mpx", "400 Mpx"])
def test_the_header_alone_is_enough_to_refuse_too_many_pixels(side: int) -> None:
    # Not one of the announced rows is there: whoever decodes first says "truncated" instead.
    with pytest.raises(ImageTooLargeError, match="the limit is 51 million"):
        read_image(png(side, side, 1, 0, b""))


def test_a_small_file_that_announces_81_mpx_truthfully_is_refused_too() -> None:
    side = 9_000
    data = png(side, side, 1, 0, bytes(side * (1 + side // 8)))
    assert len(data) < 12_000
    with pytest.raises(ImageTooLargeError, match=r"9000x9000 pixels, 81\.0 million"):
        read_image(data)


def test_the_limit_itself_is_allowed() -> None:
    data = encoded(quarters(40, 24), "PNG")
    assert read_image(data, max_pixels=40 * 24).width == 40
    with pytest.raises(ImageTooLargeError):
        read_image(data, max_pixels=40 * 24 - 1)


@pytest.mark.parametrize(("at_least", "side"), [(1600, 1600), (801, 1600), (800, 800), (300, 400), (1, 200)])
def test_a_jpeg_may_be_read_smaller_but_not_below_what_is_asked(at_least: int, side: int) -> None:
    image = read_image(encoded(quarters(1600, 960), "JPEG"), at_least=at_least)
    assert (image.width, image.height) == (side, side * 960 // 1600)
    assert corners(image) == ["red", "green", "blue", "white"]


def test_a_small_jpeg_and_other_formats_keep_their_size() -> None:
    for format in ("JPEG", "PNG", "WEBP"):
        assert read_image(encoded(quarters(), format), at_least=1000).width == 40
    assert read_image(encoded(quarters(), "PNG"), at_least=10).width == 40


def test_reading_smaller_keeps_the_rotation() -> None:
    stored = quarters(1600, 960).transpose(PillowImage.Transpose.ROTATE_90)
    image = read_image(rotated_by_exif(stored, "JPEG", 6), at_least=400)
    assert (image.width, image.height) == (400, 240)
    assert corners(image) == ["red", "green", "blue", "white"]


def test_strips_make_the_whole_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1700, 700, 3), dtype=np.uint8)
    assert np.array_equal(read_image(encoded(PillowImage.fromarray(pixels), "PNG")).pixels, pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_strips_are_turned_each_to_its_place(orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1700, 700, 3), dtype=np.uint8)
    data = rotated_by_exif(PillowImage.fromarray(pixels), "PNG", orientation)
    with PillowImage.open(io.BytesIO(data)) as picture:
        assert np.array_equal(read_image(data).pixels, np.asarray(ImageOps.exif_transpose(picture)))


def test_strips_of_transparent_pictures_turn_white_all_alike() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (1700, 700, 2), dtype=np.uint8)
    picture = PillowImage.fromarray(levels, "LA")
    white = PillowImage.new("RGB", picture.size, "white")
    white.paste(picture.convert("RGB"), mask=picture.getchannel("A"))
    assert np.array_equal(read_image(encoded(picture, "PNG")).pixels, np.asarray(white))


KINDS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "JPEG": ("JPEG", "RGB", {}, 7),
    "grey JPEG": ("JPEG", "L", {}, 4),
    "JPEG in scans": ("JPEG", "RGB", {"progressive": True, "subsampling": "4:4:4"}, 10),
    "JPEG in scans, few colours": ("JPEG", "RGB", {"progressive": True, "subsampling": "4:2:0"}, 7),
    "CMYK in scans": ("JPEG", "CMYK", {"progressive": True}, 12),
    "PNG": ("PNG", "RGB", {}, 7),
    "16 bits": ("PNG", "I;16", {}, 5),
    "palette": ("PNG", "P", {}, 4),
    "WebP": ("WEBP", "RGB", {}, 16),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_alone_is_enough_to_refuse_what_takes_too_much_memory(kind: str) -> None:
    format, mode, options, bytes_a_pixel = KINDS[kind]
    data = encoded(PillowImage.new(mode, (80, 50)), format, **options)
    needed = bytes_a_pixel * 80 * 50
    assert read_image(data, max_bytes=needed).width == 80
    with pytest.raises(ImageTooLargeError, match=f"a {format} of this kind with 80x50 pixels takes"):
        read_image(data, max_bytes=needed - 1)


def test_a_jpeg_that_is_read_smaller_takes_less_memory_unless_it_comes_in_scans() -> None:
    plain, scans = (encoded(quarters(800, 400), "JPEG", progressive=many) for many in (False, True))
    assert read_image(plain, at_least=100, max_bytes=7 * 100 * 50).width == 100
    with pytest.raises(ImageTooLargeError):
        read_image(scans, at_least=100, max_bytes=7 * 100 * 50)


def test_a_baseline_jpeg_whose_scans_are_apart_counts_as_one_in_scans() -> None:
    """libjpeg then keeps all coefficients, without the marker of a progressive one."""
    data = encoded(quarters(80, 48), "JPEG", subsampling="4:4:4")
    start = data.index(b"\xff\xda\x00\x0c\x03")
    apart = data[:start] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + data[start + 14 :]
    assert read_image(data, max_bytes=7 * 80 * 48).width == 80
    with pytest.raises(ImageTooLargeError):
        read_image(apart, max_bytes=7 * 80 * 48)


@pytest.mark.parametrize("format", list(ImageFormat))
@pytest.mark.parametrize("source", list(DigitalSource))
def test_an_answer_says_that_it_is_synthetic(format: ImageFormat, source: DigitalSource) -> None:
    data = write_image(Image(np.asarray(quarters())), format, source)
    with PillowImage.open(io.BytesIO(data)) as picture:
        assert picture.format == format.upper()
        assert format.media_type == picture.get_format_mimetype()
        xmp = picture.info["xmp"]
        others = set(picture.info) & {"exif", "icc_profile", "comment"}
    assert b"Iptc4xmpExt:DigitalSourceType>" + source.encode() + b"<" in xmp
    assert not others
    assert corners(read_image(data)) == ["red", "green", "blue", "white"]


def test_the_two_marks_differ() -> None:
    assert DigitalSource.TRAINED.endswith("/trainedAlgorithmicMedia")
    assert DigitalSource.COMPOSITE.endswith("/compositeWithTrainedAlgorithmicMedia")


def test_png_is_lossless() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = write_image(Image(pixels), ImageFormat.PNG, DigitalSource.TRAINED)
    assert np.array_equal(read_image(data).pixels, pixels)


def test_refuses_to_write_what_the_format_cannot_hold() -> None:
    long = Image(np.zeros((1, 16_384, 3), np.uint8))
    with pytest.raises(ImageTooLargeError, match="webp holds 16383; ask for png"):
        write_image(long, ImageFormat.WEBP, DigitalSource.COMPOSITE)
    assert read_image(write_image(long, ImageFormat.JPEG, DigitalSource.COMPOSITE)).width == 16_384
