"""Small PNGs, as Pillow reads them back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngImageFile

from faceswap.faces import Image
from faceswap.images import DigitalSource, ImageFormat, write_image
from faceswap.png import write_small_png


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (5, 3), (3, 200), (256, 256)])
def test_pillow_reads_the_same_pixels(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    file = PillowImage.open(io.BytesIO(write_small_png(pixels, b"")))
    file.load()  # checks every checksum
    assert (file.format, file.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(file), pixels)


def test_pixels_need_not_lie_in_a_row() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)[::-1, :, :3]
    file = PillowImage.open(io.BytesIO(write_small_png(pixels, b"")))
    assert np.array_equal(np.asarray(file), pixels)


@pytest.mark.parametrize("side", [64, 300], ids=["small", "by Pillow"])
def test_the_mark_of_a_synthetic_picture_is_read_alike(side: int) -> None:
    image = Image(np.zeros((side, side, 3), np.uint8))
    data = write_image(image, ImageFormat.PNG, DigitalSource.TRAINED)
    file = PillowImage.open(io.BytesIO(data))
    assert isinstance(file, PngImageFile)
    assert DigitalSource.TRAINED.value in file.text["XML:com.adobe.xmp"]
    assert file.text["XML:com.adobe.xmp"].startswith('<?xpacket begin="\ufeff"')
    assert DigitalSource.TRAINED.value in file.info["xmp"].decode()


def test_a_gradient_takes_little_room() -> None:
    """The filter works: rows that change evenly differ by a constant."""
    pixels = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None], 64, axis=1).repeat(3, axis=2)
    assert len(write_small_png(pixels, b"")) < 300
