"""Whose photos a figure of other faces shows, by group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from models.dataset import pictures_below
from models.errors import DataError
from models.groups import GENDERS, RACES

_UTKFACE = re.compile(r"^\d+_([01])_([0-4])_")
_T = TypeVar("_T")


def find_sources(folders: Sequence[Path], per_group: int) -> dict[str, list[Path]]:
    """Group -> photos, spread evenly over the group by name.

    A photo's group is the race and gender that UTKFace's names carry (AGE_GENDER_RACE_*), else its
    subfolder, else its folder.
    """
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        for photo in pictures_below(folder):
            groups.setdefault(_group(photo), []).append(photo)
    if not groups:
        raise DataError(f"no pictures in {', '.join(map(str, folders))}")
    return {name: spread(photos, per_group) for name, photos in sorted(groups.items())}


def _group(photo: Path) -> str:
    found = _UTKFACE.match(photo.name)
    return f"{RACES[int(found[2])]} {GENDERS[int(found[1])]}" if found else photo.parent.name


def spread(values: list[_T], count: int) -> list[_T]:
    """At most `count` of `values`, first and last among them where there is room for two."""
    if len(values) <= count:
        return values
    return [values[round(place * (len(values) - 1) / max(1, count - 1))] for place in range(count)]
