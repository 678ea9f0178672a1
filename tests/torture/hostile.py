"""Bodies that are small and want to be large; `python -m tests.torture.hostile NAME` reads one.

It prints how many MB the process has grown by at most while it read, and what came of it.
"""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from faceswap.errors import ImageTooLargeError, SwapError
from faceswap.images import read_image
from faceswap.swapper import FACE_ONLY_SIDE
from service.encodings import unpacked
from service.errors import ServiceError
from service.settings import Settings
from service.v2_tensors import read_request
from tests.torture.mutations import png_bomb

CROP = b'{"inputs":[{"name":"crops","shape":[1,64,64,3],"datatype":"UINT8","data":[%b]}]}'
BODY_LIMIT = 20_000_000
SIDEWAYS = PillowImage.Exif()
SIDEWAYS[0x0112] = 6


def flat(size: tuple[int, int], format: str, mode: str = "RGB", **options: object) -> bytes:
    """A picture of one colour: many pixels in few bytes."""
    stream = io.BytesIO()
    PillowImage.new(mode, size).save(stream, format, **options)
    return stream.getvalue()


def animated(frames: int) -> bytes:
    """A WebP of 1000x1000 with `frames` frames, of which the first alone is wanted."""
    pictures = [PillowImage.new("RGB", (1000, 1000), (shade, 0, 0)) for shade in range(frames)]
    stream = io.BytesIO()
    pictures[0].save(stream, "WEBP", save_all=True, append_images=pictures[1:])
    return stream.getvalue()


def zipped_text() -> bytes:
    """A PNG with a compressed comment of 60 MB."""
    info = PngInfo()
    info.add_text("Comment", "x" * 60_000_000, zip=True)
    return flat((64, 64), "PNG", pnginfo=info)


PICTURES: dict[str, Callable[[], bytes]] = {
    "a header of 50,000 x 50,000": lambda: png_bomb(50_000, 50_000),
    "a header of 2,147,483,647 x 1": lambda: png_bomb(2**31 - 1, 1),
    "81 Mpx of one colour in PNG": lambda: flat((9000, 9000), "PNG", "L"),
    "50 Mpx of grey in JPEG": lambda: flat((8160, 6144), "JPEG", "L", quality=10),
    "50 Mpx of colour in JPEG": lambda: flat((8160, 6144), "JPEG", quality=10),
    "38 Mpx of colour in JPEG": lambda: flat((7100, 5350), "JPEG", quality=10),
    "38 Mpx on its side": lambda: flat((7100, 5350), "JPEG", quality=10, exif=SIDEWAYS),
    "27 Mpx in scans": lambda: flat((6000, 4500), "JPEG", quality=10, subsampling=0, progressive=True),
    "50 Mpx in scans": lambda: flat((8160, 6144), "JPEG", quality=10, subsampling=0, progressive=True),
    "50 Mpx of CMYK in scans": lambda: flat((8160, 6144), "JPEG", "CMYK", quality=10, progressive=True),
    "50 Mpx in WebP": lambda: flat((16383, 3100), "WEBP", quality=10, method=0),
    "16 Mpx in WebP": lambda: flat((4200, 4000), "WEBP", quality=10, method=0),
    "38 Mpx, transparent": lambda: flat((7100, 5350), "PNG", "RGBA"),
    "50 Mpx, announced but not there": lambda: png_bomb(8160, 6144),
    "16 Mpx of CMYK": lambda: flat((4000, 4000), "JPEG", "CMYK"),
    "16 Mpx of 16 bits": lambda: flat((4000, 4000), "PNG", "I;16"),
    "16 Mpx, transparent": lambda: flat((4000, 4000), "PNG", "RGBA"),
    "100 frames of 1 Mpx": lambda: animated(100),
    "a comment of 60 MB in a PNG": zipped_text,
    "one pixel high": lambda: flat((65_000, 1), "PNG"),
}
REQUESTS: dict[str, Callable[[], bytes]] = {
    "JSON: four million brackets": lambda: b'{"inputs": ' + b"[" * 4_000_000,
    "JSON: 1.3 million lists": lambda: CROP % (b"[]," * 1_300_000 + b"1"),
    "JSON: two million numbers": lambda: CROP % (b"1," * 2_000_000 + b"1"),
    "JSON: a million fractions": lambda: CROP % (b"0.5," * 1_000_000 + b"1"),
    "JSON: one number of 4 MB": lambda: CROP % (b"1" + b"0" * 4_000_000),
    "JSON: 4 MB of a name": lambda: b'{"id":"' + b"x" * 4_000_000 + b'"}',
}
PACKED = {"gzip: 300 MB of zeros": lambda: gzip.compress(bytes(300_000_000), 6)}
NAMES = [*PICTURES, *REQUESTS, *PACKED]


def read(name: str) -> Callable[[], object]:
    """Made before, so that only the reading counts."""
    if name in PICTURES:
        picture = PICTURES[name]()
        return lambda: read_both(picture)
    if name in REQUESTS:
        request = REQUESTS[name]()
        return lambda: read_request(request, None, 64)
    body = PACKED[name]()
    return lambda: unpacked(body, "gzip", BODY_LIMIT)


def read_both(picture: bytes) -> None:
    """As for output=face and as for output=photo; what the second raises."""
    settings = Settings()
    for at_least in (FACE_ONLY_SIDE, None):
        try:
            read_image(picture, settings.max_pixels, at_least, settings.decode_bytes)
        except ImageTooLargeError:
            if at_least is None:
                raise


def memory_mb(field: str) -> float:
    """Of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main(name: str) -> None:
    reading = read(name)
    read_image(flat((64, 64), "PNG"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of making the input
    before = memory_mb("VmRSS:")
    try:
        reading()
        outcome = "read"
    except (SwapError, ServiceError) as error:
        outcome = f"{type(error).__name__}: {error}"
    sys.stdout.write(f"{max(memory_mb('VmHWM:') - before, 0):.1f} {outcome}\n")


if __name__ == "__main__":
    main(sys.argv[1])
