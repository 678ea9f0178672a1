"""How much memory a picture takes while it is decoded, told by its header: few bytes may want a lot."""

from __future__ import annotations

from PIL import Image as PillowImage
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
"""Bytes that Pillow holds a pixel in, by mode; the others take four."""
_PIXEL_BYTES = 3
_WEBP_BYTES = 16
"""libwebp's canvas and the one before it, Pillow's copy of it and its picture: 4 each."""
_COEFFICIENT_BYTES = 2


def decoding_bytes(picture: PillowImage.Image, size: tuple[int, int]) -> int:
    """The most that reading `picture` into (H, W, 3) takes at once.

    `size` is what the file holds, `picture.size` what a draft will leave of it.
    """
    if isinstance(picture, WebPImageFile):
        return _WEBP_BYTES * size[0] * size[1]
    count = picture.width * picture.height
    stored = _STORED.get(picture.mode, 4) * count
    waiting = _coefficients(picture, size) if isinstance(picture, JpegImageFile) else 0
    return stored + max(waiting, _PIXEL_BYTES * count)


def _coefficients(picture: JpegImageFile, size: tuple[int, int]) -> int:
    """Bytes of those that libjpeg keeps of a file in several scans: of all of it, whatever is drawn of it."""
    if not _has_scans(picture):
        return 0
    across = max(layer[1] for layer in picture.layer)
    down = max(layer[2] for layer in picture.layer)
    samples = sum(layer[1] * layer[2] for layer in picture.layer) / (across * down)
    return int(_COEFFICIENT_BYTES * samples * size[0] * size[1])


def _has_scans(picture: JpegImageFile) -> bool:
    """Progressive, or the first scan, whose header Pillow has just read, lacks a component (T.81, B.2.3)."""
    if picture.info.get("progressive"):
        return True
    count = len(picture.layer)
    length = 6 + 2 * count
    file = picture.fp
    assert file is not None
    here = file.tell()
    file.seek(max(here - length, 0))
    head = file.read(3)
    file.seek(here)
    return head != bytes((0, length, count))
