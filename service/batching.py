"""Faces from many requests, gathered into batches for worker threads.

A free worker takes what is there at once (greedy dispatch): waiting for more gains little on a CPU.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil

from faceswap.faces import Pixels, Swapped
from service.errors import DeadlineError, DrainingError, InternalError
from service.inference import Item, Networks, run_batch
from service.telemetry import Clock

IDLE_BEAT_S = 1.0
STUCK_AFTER_S = 60.0
"""A batch takes well under a second on a CPU; a worker silent for a minute hangs in its driver."""

log = logging.getLogger("faceswapd.batching")


@dataclass(slots=True, eq=False)
class Worker:
    """A thread and the time of its last sign of life."""

    name: str
    thread: threading.Thread | None = None
    beat: float = 0.0

    def is_live(self, now: float) -> bool:
        return self.thread is not None and self.thread.is_alive() and now - self.beat <= STUCK_AFTER_S


class Batcher:
    """Worker threads behind `swap`. Admission bounds what waits here, so the queue itself does not."""

    def __init__(self, workers: int, max_batch: int, window_s: float = 0.0) -> None:
        self._max_batch = max_batch
        self._window_s = window_s
        self._waiting: deque[Item] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._idle = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._workers = [Worker(f"networks-{number}") for number in range(workers)]

    def start(self) -> None:
        """To be called on the event loop that will call `swap`."""
        self._loop = asyncio.get_running_loop()
        for worker in self._workers:
            worker.beat = time.monotonic()
            worker.thread = threading.Thread(target=self._work, args=(worker,), name=worker.name, daemon=True)
            worker.thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Ends the workers after their batch; what still waits gets a DrainingError."""
        with self._wake:
            self._stopping = True
            left = list(self._waiting)
            self._waiting.clear()
            self._wake.notify_all()
        self._settle(left, DrainingError())
        end = time.monotonic() + timeout_s
        for worker in self._workers:
            if worker.thread is not None:
                worker.thread.join(max(end - time.monotonic(), 0))

    def dead_workers(self) -> list[str]:
        """Names of threads that have ended or hang. Empty means live."""
        now = time.monotonic()
        return [worker.name for worker in self._workers if not worker.is_live(now)]

    @property
    def depth(self) -> int:
        """Faces that wait for a worker."""
        return len(self._waiting)

    async def swap(
        self, networks: Networks, crop: Pixels, identity: str, deadline: float, clock: Clock
    ) -> Swapped:
        """The face of `identity` for `crop` (64, 64, 3) by `networks`; notes queue, encode and decode.

        Raises DeadlineError, or what the networks raised. Cancelling it drops the face.
        """
        assert self._loop is not None, "start() comes first"
        item = Item(networks, crop, identity, deadline, clock, self._loop.create_future())
        with self._wake:
            if self._stopping:
                raise DrainingError
            self._waiting.append(item)
            self._wake.notify()
        try:
            return await item.done
        except asyncio.CancelledError:  # the client left or the deadline passed: nobody waits any more
            self._forget(item)
            raise

    def _forget(self, item: Item) -> None:
        with self._wake, suppress(ValueError):  # it may be in a batch already
            self._waiting.remove(item)

    def _work(self, worker: Worker) -> None:
        batch: list[Item] = []
        try:
            while batch := self._next_batch(worker):
                self._run_safely(batch)
                batch = []  # an idle worker must not keep a replaced bundle alive
        except BaseException as error:
            # The thread ends here and /health/live says so; its requests must not wait for ever.
            log.critical("worker %s has died", worker.name, exc_info=error)
            self._settle(batch, InternalError())

    def _next_batch(self, worker: Worker) -> list[Item]:
        """Blocks until there is work; empty when the batcher stops."""
        with self._wake:
            self._idle += 1
            try:
                while not self._stopping:
                    worker.beat = time.monotonic()
                    if not self._waiting:
                        self._wake.wait(IDLE_BEAT_S)
                    elif (rest := self._window_left()) > 0:
                        self._wake.wait(rest)
                    elif batch := self._form():
                        return batch
                return []
            finally:
                self._idle -= 1

    def _window_left(self) -> float:
        if len(self._waiting) >= self._max_batch:
            return 0.0
        return self._waiting[0].arrived + self._window_s - time.monotonic()

    def _form(self) -> list[Item]:
        """A fair share of the queue, so that one worker does not take what two could do at once."""
        share = min(ceil(len(self._waiting) / max(self._idle, 1)), self._max_batch)
        batch: list[Item] = []
        late: list[Item] = []
        now = time.monotonic()
        while self._waiting and len(batch) < share:
            item = self._waiting.popleft()
            (late if item.deadline <= now else batch).append(item)
        self._settle(late, DeadlineError())
        return batch

    def _run_safely(self, batch: list[Item]) -> None:
        for networks, items in _by_networks(batch):
            try:
                run_batch(networks, items, self._settle)
            except Exception as error:
                log.exception("a batch of %d has failed", len(items))
                self._settle(items, error)

    def _settle(self, items: Sequence[Item], error: BaseException | None = None) -> None:
        """Hands the outcomes, or `error` where there is none, over to the event loop. Any thread."""
        for item in items:
            if item.outcome is None:
                item.outcome = error
        with suppress(RuntimeError):  # the loop may be closed already: then nobody waits
            if items and self._loop is not None:
                self._loop.call_soon_threadsafe(_deliver, items)


def _by_networks(batch: Sequence[Item]) -> list[tuple[Networks, list[Item]]]:
    """One group but for the moments after a reload: a latent fits the decoders of its own bundle only."""
    groups: dict[int, list[Item]] = {}
    for item in batch:
        groups.setdefault(id(item.networks), []).append(item)
    return [(items[0].networks, items) for items in groups.values()]


def _deliver(items: Sequence[Item]) -> None:
    for item in items:
        if item.done.done() or item.outcome is None:
            continue
        if isinstance(item.outcome, BaseException):
            item.done.set_exception(item.outcome)
        else:
            item.done.set_result(item.outcome)
