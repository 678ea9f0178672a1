"""Small pictures as PNG without Pillow, whose writer takes twice the time for a face of 64 px."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from faceswap.faces import Pixels

SMALL_PIXELS = 256 * 256
"""Up to here. Of larger ones Pillow makes smaller files, as it chooses a filter for each row."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2
"""PNG's filter of that number: each row as its difference from the one above."""


def write_small_png(pixels: Pixels, xmp: bytes | None = None) -> bytes:
    """The file of `pixels` (H, W, 3) RGB with an XMP packet; without one only for what is not synthetic."""
    height, width = pixels.shape[:2]
    flat = pixels.reshape(height, 3 * width)
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])  # modulo 256, as the standard wants it
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB, no interlacing
    # keyword, not compressed, no language, no translated keyword
    text = [] if xmp is None else [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)]
    # Runs only: less time than any level, and 1 % smaller than level 1; level 6: 2.5 times the time, 1 % less
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    data = packer.compress(rows.data) + packer.flush()
    chunks = [(b"IHDR", header), *text, (b"IDAT", data), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return b"".join((struct.pack(">I", len(content)), name, content, struct.pack(">I", checksum)))
