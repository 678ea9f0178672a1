"""A graph on more threads while nothing else runs, and on few while several runs share the cores.

More threads answer a single photo sooner, and cost processor time that others could use: of 2 threads one run
takes two thirds of the time and a tenth more of the processor (docs/performance.md).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

Run = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
AFTER_S = 0.05
"""For so long after two runs overlapped the next one counts as one of several."""


class LoneRuns:
    """Tells which run has the machine to itself. One for all graphs that count; safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._shared_until = 0.0

    def begin(self) -> bool:
        """Is it alone? To be followed by `end`."""
        with self._lock:
            self._running += 1
            if self._running > 1:
                self._shared_until = self._clock() + AFTER_S
                return False
            return self._clock() >= self._shared_until

    def end(self) -> None:
        with self._lock:
            self._running -= 1


class LoneSession:
    """A graph on few threads, `narrow`, for runs that share the cores, and `wide` for those alone."""

    def __init__(self, provider: str, narrow: Run, wide: Run, runs: LoneRuns) -> None:
        self.provider = provider
        self._narrow, self._wide, self._runs = narrow, wide, runs

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        run = self._wide if self._runs.begin() else self._narrow
        try:
            return run(batch)
        finally:
            self._runs.end()
