"""What is asked, before it goes over a wire: the same for `Client` and `AsyncClient`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, TypedDict
from urllib.parse import quote

Photo: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""A photo: its bytes, the path of a file, or a file opened for reading bytes. JPEG, PNG or WebP."""

_RAW = "application/octet-stream"
_LINES = "application/x-ndjson"


class Wishes(TypedDict, total=False):
    """How to swap; what is left out is as docs/api.md says."""

    crop: Literal["auto", "none"]
    """auto finds and aligns the face; none: the photo is a ready, aligned 64x64 crop."""
    face: int
    """Which face: 0 is the largest, 1 the next."""
    output: Literal["face", "photo"]
    """face: the swapped 64x64 face; photo: the whole photo with that face set into it."""
    format: Literal["png", "jpeg", "webp"]
    """For output="photo", jpeg is many times faster and smaller than png."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request that can be made again, as often as needed."""

    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    """For httpx's build_request: params, headers, content, files."""


def read(photo: Photo) -> bytes:
    """The photo's bytes. OSError where its file cannot be read."""
    if isinstance(photo, (bytes, bytearray, memoryview)):
        return bytes(photo)
    if isinstance(photo, (str, os.PathLike)):
        return Path(photo).read_bytes()
    return photo.read()


def swap(photo: bytes, target: str, wishes: Wishes) -> Question:
    return _post("/swap", [target], wishes, {"Content-Type": _RAW}, content=photo)


def swap_each(photo: bytes, targets: Iterable[str], wishes: Wishes) -> Question:
    return _post("/swap", targets, wishes, {"Content-Type": _RAW, "Accept": _LINES}, content=photo)


def batch(photos: Sequence[bytes], targets: Iterable[str], wishes: Wishes) -> Question:
    files = [("image", (f"{number}", photo, _RAW)) for number, photo in enumerate(photos)]
    return _post("/swap/batch", targets, wishes, {"Accept": _LINES}, files=files)


def get(path: str) -> Question:
    return Question("GET", path)


def identity(name: str, more: str = "") -> Question:
    return get(f"/identities/{quote(name, safe='')}{more}")


def names(targets: str | Iterable[str]) -> list[str]:
    """A single name is a list of one."""
    return [targets] if isinstance(targets, str) else list(targets)


def _post(
    path: str, targets: Iterable[str], wishes: Wishes, headers: dict[str, str], **body: Any
) -> Question:
    params = [("target", target) for target in targets] + [(name, str(to)) for name, to in wishes.items()]
    return Question("POST", path, {"params": params, "headers": headers, **body})
