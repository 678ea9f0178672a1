"""Training crops from folders: who is in them, and which general faces stay unseen for measuring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from faceswap.bundle import IdentityName
from faceswap.faces import CROP_SIZE, Pixels
from models.checkpoint import UNIVERSAL
from models.errors import DataError

MARGIN = 8
"""Pixels that a training crop keeps around the 64x64 that serving sees, on every side."""
PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
HELD_OUT_SHARE = 0.1
_NAMES: TypeAdapter[str] = TypeAdapter(IdentityName)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person's crops, uint8 (n, 3, 80, 80) RGB, and what their `identity.json` says."""

    name: str
    crops: Tensor
    record: dict[str, Any] = field(default_factory=dict)


def held_out(person: str) -> bool:
    """Whether this person of a general set is never trained on: a tenth of all names, by their hash.

    The rule needs no list, so training and measuring agree on any machine.
    """
    digest = hashlib.sha256(person.encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def pictures_below(folder: Path) -> list[Path]:
    """Picture files in `folder` and below, by name."""
    if not folder.is_dir():
        raise DataError(
            f"{folder} is no folder; make crops with: python -m models.crop PHOTOS --out {folder}"
        )
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES)


def load_person(folder: Path) -> Person:
    """All crops of a person's folder, with `identity.json` (licence and consent) if it is there."""
    return Person(folder.name, load_crops(pictures_below(folder)), read_record(folder))


def read_record(folder: Path) -> dict[str, Any]:
    """The person's `identity.json`: licence and consent. Empty if there is none; export asks for it."""
    path = folder / "identity.json"
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} must hold an object with licence and consent")
    return record


def load_people(folder: Path) -> list[Person]:
    """One person per subfolder of `folder`."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; it should hold one folder of crops for each person")
    folders = [sub for sub in sorted(folder.iterdir()) if sub.is_dir()]
    if not folders:
        raise DataError(f"{folder} has no subfolders; it should hold one folder of crops for each person")
    for sub in folders:
        check_name(sub.name)
    return [load_person(sub) for sub in folders]


def check_name(name: str) -> None:
    """DataError for what cannot be an identity's name: before hours of training, not after them."""
    try:
        _NAMES.validate_python(name)
    except ValidationError as error:
        raise DataError(
            f"{name}: a person's folder is named in lower-case letters, digits, _ and - only; rename it"
        ) from error
    if name == UNIVERSAL:
        raise DataError(f"the name {UNIVERSAL!r} is taken by the decoder of everybody; choose another")


def load_general(folders: Iterable[Path]) -> Tensor:
    """Crops of many people from sets such as `lfw/<Name>/*.jpg`, without the held-out ones."""
    files = [p for folder in folders for p in pictures_below(folder) if not held_out(person_of(p, folder))]
    return load_crops(files)


def person_of(picture: Path, folder: Path) -> str:
    """A general set's person: the subfolder's name, or the file's stem where there is none."""
    return picture.parent.name if picture.parent != folder else picture.stem


def side_of_crops() -> int:
    """80: what serving sees, and a margin for augmentation on every side."""
    return CROP_SIZE + 2 * MARGIN


def load_crops(files: list[Path]) -> Tensor:
    """uint8 (n, 3, 80, 80); raises DataError for a file that is no training crop."""
    if not files:
        raise DataError("no pictures found; make crops with: python -m models.crop PHOTOS --out DIR")
    side = side_of_crops()
    crops = np.empty((len(files), side, side, 3), dtype=np.uint8)
    for index, file in enumerate(files):
        crops[index] = _load_crop(file, side)
    return torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()  # (n, 3, 80, 80)


def _load_crop(file: Path, side: int) -> Pixels:
    try:
        with PillowImage.open(file) as picture:
            width, height, pixels = *picture.size, np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError) as error:  # what Pillow raises for a damaged file
        raise DataError(f"{file} cannot be read as a picture") from error
    if (width, height) != (side, side):
        raise DataError(
            f"{file} is {width}x{height}; training wants {side}x{side} crops "
            f"made by: python -m models.crop PHOTOS --out DIR"
        )
    return pixels


def centre(crops: Tensor) -> Tensor:
    """The 64x64 that serving sees of crops (n, 3, 80, 80)."""
    return crops[..., MARGIN : MARGIN + CROP_SIZE, MARGIN : MARGIN + CROP_SIZE]


def most_frontal(crops: Tensor) -> Tensor:
    """The 64x64 of a frontal, evenly lit crop with open eyes, of crops (n, 3, 80, 80).

    Of the eight that are most like their mirror images, the one with the most contrast at the eyes.
    """
    faces = centre(crops).float().mean(dim=1)  # (n, 64, 64)
    inner = faces[:, 16:56, 10:54]  # brows to mouth
    asymmetry = (inner - inner.flip(-1)).abs().mean(dim=(1, 2)) / inner.std(dim=(1, 2)).clamp_min(1)
    frontal = asymmetry.argsort()[:8]
    eyes = faces[frontal, 22:30, 16:48].std(dim=(1, 2))
    return centre(crops[frontal[eyes.argmax()]])
