"""Picture files made in memory, among them PNG files that Pillow would not write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image as PillowImage

ORIENTATION = 0x0112  # EXIF tag


def encoded(picture: PillowImage.Image, format: str, **options: Any) -> bytes:
    """`picture` as a file's bytes."""
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def quarters(width: int = 40, height: int = 24) -> PillowImage.Image:
    """Red top left, green top right, blue bottom left, white bottom right: shows every turn."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    return PillowImage.fromarray(pixels)


def rotated_by_exif(picture: PillowImage.Image, format: str, orientation: int) -> bytes:
    """A file whose viewer has to turn it by `orientation`, 1 to 8, to see it upright."""
    exif = PillowImage.Exif()
    exif[ORIENTATION] = orientation
    return encoded(picture, format, exif=exif)


def png(width: int, height: int, depth: int, color_type: int, rows: bytes) -> bytes:
    """A PNG file of raw `rows`, each led by its filter byte; the header is believed as it is."""
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows, 9)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
