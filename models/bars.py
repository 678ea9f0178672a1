"""How far training, cropping and measuring are: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any, TypeAlias

from tqdm import tqdm

LOG_SECONDS = 30.0
Bar: TypeAlias = "tqdm[Any]"


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> Bar:
    """tqdm with its `options`, on stdout."""
    draw: type[Bar] = tqdm if sys.stdout.isatty() else _Lines
    return draw(items, file=sys.stdout, **options)


class _Lines(tqdm):  # type: ignore[type-arg]
    """Instead of a bar that moves: what it would show as a line, every LOG_SECONDS and once at the end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._said = time.monotonic()
        super().__init__(*arguments, **options | {"leave": False})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:  # noqa: ARG002
        """What tqdm calls for every movement; an empty message would wipe the bar."""
        if msg is None and time.monotonic() - self._said >= LOG_SECONDS:
            self._say()

    def close(self) -> None:
        if not self.disable:
            self._say()
        super().close()

    def _say(self) -> None:
        self._said = time.monotonic()
        self.fp.write(f"{self}\n")
        self.fp.flush()
