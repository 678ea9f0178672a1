"""How far a measurement is, for whoever waits: a bar on stderr, and nothing where that is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
Step = Callable[[str], None]
"""Says what was done."""


@contextmanager
def steps(total: int) -> Iterator[Step]:
    """A block of `total` steps."""
    with tqdm(total=total, unit="step", **_options()) as bar:

        def step(done: str) -> None:
            bar.set_postfix_str(done, refresh=False)
            bar.update()

        yield step


def each(items: Iterable[T], total: int, unit: str) -> Iterator[T]:
    """The `items` one after another."""
    yield from tqdm(items, total=total, unit=unit, **_options())


def _options() -> dict[str, Any]:
    return {"file": sys.stderr, "disable": None, "leave": False, "mininterval": 0}
