"""How much torture: TORTURE=1 for all of it; and what it came to."""

from __future__ import annotations

import os
from typing import Any, TypeVar

T = TypeVar("T")

FULL = bool(os.environ.get("TORTURE"))


def sized(small: T, full: T) -> T:
    """`small` in the ordinary suite."""
    return full if FULL else small


class Tally:
    """A row for each kind of torture; figures of the same row add up, those that end on _max are maxima."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def note(self, row: str, **figures: float) -> None:
        told = self.rows.setdefault(row, {})
        for name, figure in figures.items():
            before = told.get(name, figure if name.endswith("_max") else 0)
            told[name] = max(before, figure) if name.endswith("_max") else before + figure
