"""Faces from many requests, gathered into batches for worker threads.

A free worker takes what is there at once (greedy dispatch): waiting for more gains little on a CPU.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from faceswap.faces import Pixels, Swapped
from service.errors import DeadlineError, DrainingError, InternalError
from service.inference import Item, Job, Networks, Task, Wish, only_networks, run_batch
from service.telemetry import Clock

IDLE_BEAT_S = 1.0
STUCK_AFTER_S = 60.0
"""A batch takes well under a second on a CPU; a worker silent for a minute hangs in its driver."""

T = TypeVar("T")

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

    def __init__(
        self,
        workers: int,
        max_batch: int,
        window_s: float = 0.0,
        timed: Callable[[Networks], Networks] = lambda networks: networks,
    ) -> None:
        """`timed` puts a watch on the networks of a batch."""
        self._max_batch = max_batch
        self._window_s = window_s
        self._timed = timed
        self._waiting: deque[Item] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._running = 0
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
        self._settle([wish for item in left for wish in item.wishes], DrainingError())
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
        with self._wake:
            return self._faces()

    async def swap(
        self, networks: Networks, crop: Pixels, identity: str, deadline: float, clock: Clock
    ) -> Swapped:
        """The face of `identity` for `crop` (64, 64, 3) by `networks`; notes queue, encode and decode.

        Raises DeadlineError, or what the networks raised. Cancelling it drops the face.
        """
        return await self.run(networks, only_networks(crop), identity, deadline, clock)

    async def run(self, networks: Networks, job: Job[T], identity: str, deadline: float, clock: Clock) -> T:
        """The same for a crop that the worker opens itself, and with what it makes of the face."""
        assert self._loop is not None, "start() comes first"
        wish = Wish(identity, clock, self._loop.create_future(), job.finish)
        with self._queued(Item(networks, job.open, [wish], deadline)):
            result: T = await wish.done
            return result

    @contextmanager
    def wishes(
        self, networks: Networks, crop: Pixels, clocks: Mapping[str, Clock], deadline: float
    ) -> Iterator[list[asyncio.Future[Swapped]]]:
        """A future for each identity of `clocks`: `networks` encode the crop once for all of them.

        They are worked on in their order, as far as the workers allow. What is still undone when the
        block ends is dropped: then the client left or the deadline passed, and nobody waits any more.
        """
        assert self._loop is not None, "start() comes first"
        loop, job = self._loop, only_networks(crop)
        wishes = [Wish(name, clock, loop.create_future(), job.finish) for name, clock in clocks.items()]
        with self._queued(Item(networks, job.open, wishes, deadline)):
            yield [wish.done for wish in wishes]

    @contextmanager
    def _queued(self, item: Item) -> Iterator[None]:
        """A block in which the wishes of `item` wait or are worked on; nobody waits for them afterwards."""
        wishes, item.wishes = item.wishes, list(item.wishes)
        with self._wake:
            if self._stopping:
                raise DrainingError
            if wishes:
                self._waiting.append(item)
                self._wake.notify(len(wishes))
        try:
            yield
        finally:
            self._forget(item, wishes)

    def _forget(self, item: Item, wishes: Sequence[Wish]) -> None:
        """A worker may have some of them already; those it drops before it decodes them."""
        undone = [wish for wish in wishes if not wish.done.done() or wish.done.cancelled()]
        for wish in wishes:
            if not wish.done.cancel() and not wish.done.cancelled():
                wish.done.exception()  # seen: nobody will ask for it
        if undone:
            with self._wake, suppress(ValueError):
                item.wishes.clear()
                self._waiting.remove(item)

    def _work(self, worker: Worker) -> None:
        batch: list[Task] = []
        try:
            while batch := self._next_batch(worker):
                faces = _size(batch)
                self._run_safely(batch)
                batch = []  # an idle worker must not keep a replaced bundle alive
                with self._wake:
                    self._running -= faces
        except BaseException as error:
            # The thread ends here and /health/live says so; its requests must not wait for ever.
            log.critical("worker %s has died", worker.name, exc_info=error)
            self._settle(_at_stake(batch), InternalError())

    def _next_batch(self, worker: Worker) -> list[Task]:
        """Blocks until there is work; empty when the batcher stops."""
        with self._wake:
            while not self._stopping:
                worker.beat = time.monotonic()
                if not self._waiting:
                    self._wake.wait(IDLE_BEAT_S)
                elif (rest := self._window_left()) > 0:
                    self._wake.wait(rest)
                elif batch := self._form():
                    self._running += _size(batch)
                    return batch
            return []

    def _window_left(self) -> float:
        if self._faces() >= self._max_batch or self._waiting[0].latent is not None:
            return 0.0
        return self._waiting[0].queued + self._window_s - time.monotonic()

    def _faces(self) -> int:
        return sum(len(item.wishes) for item in self._waiting)

    def _form(self) -> list[Task]:
        """A fair share of what is in work and waits: a worker that takes all that waits, while the other
        has little, ends up with a long batch beside short ones, and its last face comes late.

        Counted in faces to decode. An item with more than that comes back once it is encoded, at the
        end of the queue: one photo with many identities does not hold up the others.
        """
        share = ceil((self._faces() + self._running) / len(self._workers))
        room = min(share, self._max_batch)
        batch: list[Task] = []
        late: list[Wish] = []
        now = time.monotonic()
        while self._waiting and room > 0:
            item = self._waiting.popleft()
            if item.deadline <= now:
                late += item.wishes
                continue
            batch.append(Task(item, item.wishes[:room]))
            room -= len(batch[-1].wishes)
            del item.wishes[: len(batch[-1].wishes)]
        self._settle(late, DeadlineError())
        return batch

    def _put_back(self, items: Sequence[Item]) -> None:
        with self._wake:
            now = time.monotonic()
            for item in items:
                item.queued = now
            left = [item for item in items if item.wishes]  # dropped meanwhile?
            if not self._stopping:
                self._waiting.extend(left)
                self._wake.notify(sum(len(item.wishes) for item in left))
                return
        self._settle([wish for item in left for wish in item.wishes], DrainingError())

    def _run_safely(self, batch: list[Task]) -> None:
        for networks, tasks in _by_networks(batch):
            try:
                run_batch(self._timed(networks), tasks, self._settle, self._put_back)
            except Exception as error:
                log.exception("a batch of %d has failed", len(tasks))
                self._settle(_at_stake(tasks), error)

    def _settle(self, wishes: Sequence[Wish], error: BaseException | None = None) -> None:
        """Hands the outcomes, or `error` where there is none, over to the event loop. Any thread."""
        for wish in wishes:
            if wish.outcome is None:
                wish.outcome = error
        with suppress(RuntimeError):  # the loop may be closed already: then nobody waits
            if wishes and self._loop is not None:
                self._loop.call_soon_threadsafe(_deliver, wishes)


def _size(batch: Sequence[Task]) -> int:
    return sum(len(task.wishes) for task in batch)


def _by_networks(batch: Sequence[Task]) -> list[tuple[Networks, list[Task]]]:
    """One group but for the moments after a reload."""
    groups: dict[int, list[Task]] = {}
    for task in batch:
        groups.setdefault(id(task.item.networks), []).append(task)
    return [(tasks[0].item.networks, tasks) for tasks in groups.values()]


def _at_stake(batch: Sequence[Task]) -> list[Wish]:
    return [wish for task in batch for wish in task.at_stake]


def _deliver(wishes: Sequence[Wish]) -> None:
    for wish in wishes:
        if wish.done.done() or wish.outcome is None:
            continue
        if isinstance(wish.outcome, BaseException):
            wish.done.set_exception(wish.outcome)
        else:
            wish.done.set_result(wish.outcome)
