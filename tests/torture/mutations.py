"""Good files made bad: bits flipped, pieces cut, doubled or swapped, numbers made large."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image as PillowImage

from tests.service.fakes import photo

Random = np.random.Generator
LARGE = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutants(seeds: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` files, each one of `seeds` with one to eight changes; always the same ones."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(seeds[int(random.integers(len(seeds)))])
        for _ in range(random.integers(1, 9)):
            _change(data, random, seeds)
        yield bytes(data)


def _change(data: bytearray, random: Random, seeds: Sequence[bytes]) -> None:
    at = int(random.integers(len(data) + 1))
    kind = random.integers(7)
    if kind == 0:
        data[at : at + 1] = bytes([int(random.integers(256))])
    elif kind == 1 and at < len(data):
        data[at] ^= 1 << int(random.integers(8))
    elif kind == 2:
        del data[at : at + int(random.integers(1, 64))]
    elif kind == 3:
        data[at:at] = bytes(data[at : at + int(random.integers(1, 64))])
    elif kind == 4:
        width = int(random.choice((1, 2, 4)))
        large = LARGE[int(random.integers(len(LARGE)))] & (256**width - 1)
        data[at : at + width] = large.to_bytes(width, "big" if random.integers(2) else "little")
    elif kind == 5:
        other = seeds[int(random.integers(len(seeds)))]
        start = int(random.integers(len(other)))
        data[at : at + 32] = other[start : start + int(random.integers(1, 256))]
    else:
        del data[at:]


def pictures() -> list[bytes]:
    """One of each kind that the service must read, small so that mutants hit what matters."""
    small = PillowImage.open(io.BytesIO(photo((24, 17))))
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    return [
        _written(small, "JPEG", quality=60, exif=exif),
        _written(small, "JPEG", progressive=True),
        _written(small.convert("L"), "JPEG"),
        _written(small.convert("CMYK"), "JPEG"),
        _written(small, "PNG", exif=exif),
        _written(small.convert("P"), "PNG", transparency=3),
        _written(small.convert("RGBA"), "PNG"),
        _written(small.convert("LA"), "PNG"),
        _written(small.convert("1"), "PNG"),
        _written(PillowImage.fromarray(np.arange(408, dtype=np.uint16).reshape(17, 24) * 160), "PNG"),
        _written(small, "PNG", save_all=True, append_images=[small.rotate(90)]),
        _written(small, "WEBP", quality=50),
        _written(small.convert("RGBA"), "WEBP", lossless=True, exif=exif),
        _written(small, "WEBP", save_all=True, append_images=[small.rotate(90)]),
    ]


def _written(picture: PillowImage.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def png_bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces width x height grey pixels, with hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
