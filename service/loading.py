"""Decoders into memory, on threads of their own: those who have theirs never wait for those who have not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from faceswap import memory
from service.telemetry import Clock


class Loadable(Protocol):
    """What has decoders to load."""

    def is_loaded(self, identity: str) -> bool: ...

    def load(self, identity: str) -> None: ...


Told = Callable[[str, bool], None]
"""Hears of each load: of what, and whether it was done."""


@dataclass(slots=True, eq=False)
class _Load:
    """A load under way, or waiting for its turn."""

    done: asyncio.Future[None]
    waiting: int = 0


class Loader:
    """Loads each decoder once for all who wait for it. For the event loop only."""

    def __init__(
        self,
        threads: int,
        trim: Callable[[], None] = memory.trim,
        told: Told = lambda _what, _done: None,
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decoders")
        self._trim = trim
        self._told = told
        self._loads: dict[tuple[Loadable, str], _Load] = {}

    async def warm(self, networks: Loadable, identity: str, clock: Clock) -> None:
        """Returns when the decoder of `identity` is in memory; notes `load` where that took time.

        Raises what loading raises. A load that nobody waits for any more is dropped before its turn.
        """
        if networks.is_loaded(identity):
            return
        load = self._loads.get((networks, identity)) or self._begin(networks, identity)
        load.waiting += 1
        try:
            with clock.span("load"):
                await asyncio.shield(load.done)
        finally:
            load.waiting -= 1
            if not load.waiting:
                load.done.cancel()

    def tidy(self) -> None:
        """Gives freed memory back to the system. From any thread; no effect after `stop`."""
        try:
            self._pool.submit(self._trim)
        except RuntimeError:  # stopped
            return

    def stop(self) -> None:
        """Loads that have begun go on, nobody waits for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, networks: Loadable, identity: str) -> _Load:
        key = networks, identity
        loop = asyncio.get_running_loop()
        load = self._loads[key] = _Load(loop.run_in_executor(self._pool, networks.load, identity))

        def ended(done: asyncio.Future[None]) -> None:
            del self._loads[key]
            if not done.cancelled():
                self._told("decoder", done.exception() is None)  # seen, even where all who waited have left

        load.done.add_done_callback(ended)
        return load
