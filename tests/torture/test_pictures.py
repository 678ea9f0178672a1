"""Odd pictures come out right, bad ones are refused by name, and none takes much memory."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage

from benchmarks.server import HOST, serving
from faceswap.errors import ImageTooLargeError, NotAnImageError, SwapError, TruncatedImageError
from faceswap.images import read_image
from tests.service.fakes import opened, photo
from tests.torture import hostile
from tests.torture.mutations import pictures, png_bomb
from tests.torture.sizes import Tally, sized

ROOT = Path(__file__).parents[2]
MEMORY_MB = 300
WHOLE_MIB = 350
"""Of a request with the largest photo: its reading, and the detector beside it."""
SMALL = ["50 Mpx, announced but not there", "50 Mpx in WebP", "JSON: 1.3 million lists"]


@pytest.mark.parametrize("name", sized(SMALL, hostile.NAMES))
def test_memory(name: str, tally: Tally) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's /proc")
    command = [sys.executable, "-W", "error", "-m", "tests.torture.hostile", name]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr
    grown, _, outcome = child.stdout.partition(" ")
    tally.note("memory of hostile bodies", inputs=1, grown_mb_max=float(grown))
    assert float(grown) < MEMORY_MB, outcome


def test_memory_of_a_whole_request(examples: Path, tally: Tally) -> None:
    """Read, detected, pasted into and written: a photo as large as the defaults let through."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's /proc")
    size = sized((2000, 1500), (7150, 5380))
    data = saved(PillowImage.open(examples / "b.jpg").convert("RGB").resize(size), "JPEG", quality=30)
    query = "target=will&output=photo&format=jpeg"
    with serving(ROOT / "bundles/demo", "cpu", more={"FACESWAPD_LOG_LEVEL": "error"}) as server:
        url = f"http://{HOST}:{server.port}/swap?{query}"
        headers = {"Content-Type": "image/jpeg"}
        small = saved(opened(data).resize((400, 300)), "JPEG")
        assert httpx.post(url, content=small, headers=headers, timeout=60).status_code == 200
        before = server.memory_mib()
        assert before is not None
        answer = httpx.post(url, content=data, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        grown = (server.memory_mib(peak=True) or 0) - before
    assert opened(answer.content).size == size
    tally.note("memory of a whole request", megapixels=size[0] * size[1] / 1e6, grown_mib=round(grown, 1))
    assert grown < WHOLE_MIB


def like(data: bytes, wanted: PillowImage.Image, tolerance: float = 3) -> None:
    """The mean difference in grey levels: JPEG and palettes are not exact."""
    got, expected = read_image(data).pixels.astype(int), np.asarray(wanted.convert("RGB")).astype(int)
    assert got.shape == expected.shape
    assert np.abs(got - expected).mean() < tolerance


def saved(picture: PillowImage.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


@pytest.fixture
def colours() -> PillowImage.Image:
    return opened(photo((96, 64)))


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB", "YCbCr"])
def test_modes_of_jpeg(colours: PillowImage.Image, mode: str) -> None:
    like(
        saved(colours.convert(mode), "JPEG", quality=95), colours.convert("L") if mode == "L" else colours, 4
    )


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_modes_of_png(colours: PillowImage.Image, mode: str) -> None:
    given = colours.quantize(256) if mode == "P" else colours.convert(mode)
    like(saved(given, "PNG"), colours.convert("L") if mode[0] == "L" else colours, 8)


def test_sixteen_bits_keep_the_high_byte() -> None:
    wide = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    pixels = read_image(saved(PillowImage.fromarray(wide), "PNG")).pixels
    assert np.array_equal(pixels[..., 0], wide >> 8)


def test_transparent_parts_turn_white(colours: PillowImage.Image) -> None:
    colours.putalpha(0)
    for format in ("PNG", "WEBP"):
        assert read_image(saved(colours, format, lossless=True)).pixels.min() == 255


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame(colours: PillowImage.Image, format: str) -> None:
    frames = [colours.rotate(90), colours.rotate(180)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(colours, format, save_all=True, append_images=frames, **options)
    like(data, colours)


@pytest.mark.parametrize("orientation", range(10))
def test_orientations_and_those_that_are_none(colours: PillowImage.Image, orientation: int) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    for format in ("JPEG", "PNG", "WEBP"):
        size = read_image(saved(colours, format, exif=exif)).pixels.shape[:2]
        assert size == ((96, 64) if orientation in (5, 6, 7, 8) else (64, 96))


BROKEN_EXIF = {
    "empty": b"",
    "no header": b"Exif\0\0",
    "far away": b"Exif\0\0MM\0*\xff\xff\xff\xff",
    "too many entries": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 500,
    "zeros": b"Exif\0\0" + bytes(60_000),
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("block", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_broken_exif_is_no_reason_to_refuse(colours: PillowImage.Image, block: bytes) -> None:
    like(saved(colours, "JPEG", quality=95, exif=block), colours)


def test_polyglots(colours: PillowImage.Image) -> None:
    """What follows the picture is not looked at; what stands before it makes it no picture."""
    picture = saved(colours, "PNG")
    for other in (b"PK\x03\x04", b"<script>alert(1)</script>", b"%PDF-1.7", picture):
        like(picture + other, colours)
    for before in (b"GIF89a", b"<svg>", b"%PDF-1.7\n", b"PK\x03\x04", b"\0"):
        with pytest.raises(NotAnImageError):
            read_image(before + picture)


def test_other_formats_are_none(colours: PillowImage.Image) -> None:
    for format in ("GIF", "BMP", "TIFF", "PPM", "ICO", "TGA"):
        with pytest.raises(NotAnImageError):
            read_image(saved(colours, format))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_every_picture_cut_at_every_byte(tally: Tally) -> None:
    """Never another error, and never the whole picture before it is there (but for what is behind it)."""
    errors = (TruncatedImageError, NotAnImageError)
    for data in pictures():
        for end in range(0, len(data), sized(29, 1)):
            try:
                read_image(data[:end])
            except errors:
                tally.note("truncated pictures", inputs=1, refused=1)
            else:
                tally.note("truncated pictures", inputs=1, read=1)


@pytest.mark.parametrize(("size", "limit"), [((101, 100), 10_100), ((1, 30_000), 30_000)])
def test_the_limit_of_pixels_is_exact(size: tuple[int, int], limit: int) -> None:
    data = photo(size)
    assert read_image(data, limit).width == size[0]
    with pytest.raises(ImageTooLargeError):
        read_image(data, limit - 1)


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1)])
def test_impossible_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(SwapError):
        read_image(png_bomb(*size))
