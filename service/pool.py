"""The threads that pictures are read, searched, pasted and written on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from service.telemetry import Clock

T = TypeVar("T")


class ImagePool:
    """A bounded pool. The event loop hands steps over and never works on pixels itself."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="images")

    async def run(self, clock: Clock, step: Callable[..., T], *arguments: Any) -> T:
        """`step(*arguments)` in the pool; notes the wait. Cancelled before its turn, it never runs."""
        submitted = time.monotonic()

        def timed() -> T:
            clock.add("queue", time.monotonic() - submitted)
            return step(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._threads, timed)

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
