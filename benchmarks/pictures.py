"""What is posted: one sample photo, as a ready crop and in any size."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PillowImage

from faceswap.faces import Pixels
from faceswap.swapper import Swapper

PHOTO = Path(__file__).parent.parent / "examples" / "a.jpg"
PHOTO_SIDE = 250
"""Longer side in pixels of the photo that is posted: that of LFW's photos."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture's file to post and how to ask for the swap."""

    name: str
    picture: bytes
    media_type: str
    query: str


def ready_crop(swapper: Swapper, identity: str) -> Upload:
    """The sample photo's face, aligned: 64 px, a PNG. It needs no detection."""
    image = swapper.read(PHOTO)
    crop = swapper.align(image, swapper.find_face(image))
    return Upload("64 px crop", _png(crop.pixels), "image/png", f"target={identity}&crop=none")


def photo(identity: str, side: int = PHOTO_SIDE) -> Upload:
    """The sample photo as a JPEG whose longer side has `side` pixels, enlarged where it must be."""
    with PillowImage.open(PHOTO) as opened:
        whole = opened.convert("RGB")
    scale = side / max(whole.size)
    size = max(round(whole.width * scale), 1), max(round(whole.height * scale), 1)
    file = io.BytesIO()
    whole.resize(size, PillowImage.Resampling.LANCZOS).save(file, "JPEG", quality=95)
    return Upload(f"{side} px photo", file.getvalue(), "image/jpeg", f"target={identity}")


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
