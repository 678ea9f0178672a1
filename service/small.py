"""Which swaps are small: done whole by the one thread that runs the networks.

To read a ready crop and to write its face takes 0.2 ms. Handing it on to other threads, with a turn of the
event loop for each, takes longer than that. A batch waits for it, so it must be small for sure.
"""

from __future__ import annotations

from faceswap.faces import CROP_SIZE
from service.schemas import CropMode, Output, SwapQuery

SMALL_BYTES = 32 * 1024
"""A crop of 64 px has 12 kB before it is compressed."""
SMALL_PIXELS = CROP_SIZE * CROP_SIZE
"""By the picture's header; a larger one is worked on elsewhere, even if only to be refused."""
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""PNG and JPEG; a WebP takes its time."""


class NotSmallError(Exception):
    """The bytes are few, the pixels are many."""


def may_be_small(data: bytes, query: SwapQuery) -> bool:
    """Nothing is searched for, nothing pasted, and there are few bytes; the header has yet to be read."""
    ready = query.crop is CropMode.NONE and query.output is Output.FACE
    return ready and len(data) <= SMALL_BYTES and data.startswith(_SIGNATURES)
