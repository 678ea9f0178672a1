"""SessionCache: sessions that are loaded when needed, and let go when their memory is needed."""

from __future__ import annotations

import statistics
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from faceswap import memory
from faceswap.sessions import Session

FIRST_RATIO = 2.0
"""Memory over file size, until it has been measured: weights are stored as float16 and run as float32."""
BOUNDS = 1.0, 4.0
"""What lies outside was another thread's memory."""
SAMPLES = 15


@dataclass(slots=True, eq=False)
class _Place:
    """A session that is there or on its way, and the bytes that it takes."""

    bytes: int
    session: Future[Session] = field(default_factory=Future)


class SessionCache:
    """Keeps what was used last, within a limit of memory; safe from any thread.

    What is held, pinned or being loaded stays, so these together may go over the limit.
    """

    def __init__(
        self,
        limit_bytes: int | None = None,
        heap: Callable[[], int | None] = memory.heap_bytes,
        trim: Callable[[], None] = memory.trim,
        most: Callable[[], float] = lambda: BOUNDS[1],
    ) -> None:
        """No limit without `limit_bytes`. `heap` counts the bytes in use, `trim` gives freed ones back.

        `most` is the largest ratio of memory to file size that is believed.
        """
        self._most = most
        self.limit_bytes = limit_bytes
        self._heap = heap
        self._trim = trim
        self._lock = threading.Lock()
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()  # the least recently used first
        self._bytes = 0
        self._loads = 0
        self._held: Counter[Hashable] = Counter()
        self._pinned: frozenset[Hashable] = frozenset()
        self._wanted: frozenset[Hashable] | None = None
        self._ratios: dict[int, deque[float]] = {}

    def get(self, key: Hashable, file_bytes: int, load: Callable[[], Session]) -> Session:
        """The session of `key`; whoever asks while it loads waits for that one load.

        Loading runs in the caller's thread and raises what `load` raises, to all who wait; the next call
        tries anew. `file_bytes` is the size of the graph, from which its memory is estimated.
        """
        with self._lock:
            place = self._places.get(key)
            mine = place is None
            if place is None:
                place = self._places[key] = _Place(self._estimate(file_bytes))
                self._bytes += place.bytes
            self._places.move_to_end(key)
            surplus = self._pop_surplus() if mine else []
        if mine:
            if surplus:
                surplus.clear()  # freed before the new one comes, and not under the lock
                self._trim()
            self._load(key, place, file_bytes, load)
        return place.session.result()

    def is_ready(self, key: Hashable) -> bool:
        """Would `get` answer at once?"""
        with self._lock:
            place = self._places.get(key)
            return place is not None and place.session.done()

    @contextmanager
    def hold(self, key: Hashable) -> Iterator[None]:
        """What is or will be loaded for `key` stays until the end of the block."""
        with self._lock:
            self._held[key] += 1
            if key in self._places:
                self._places.move_to_end(key)
        try:
            yield
        finally:
            self._release(key)

    def keep(self, wanted: Collection[Hashable], pinned: Collection[Hashable]) -> None:
        """From now on `pinned` stay for ever, and what is not `wanted` goes when nobody holds it."""
        with self._lock:
            self._wanted, self._pinned = frozenset(wanted), frozenset(pinned)
            gone = [self._pop(key) for key, place in list(self._places.items()) if self._is_over(key, place)]
        if gone:
            gone.clear()
            self._trim()

    @property
    def ready(self) -> frozenset[Hashable]:
        """Keys of what is loaded."""
        with self._lock:
            return frozenset(key for key, place in self._places.items() if place.session.done())

    @property
    def bytes(self) -> int:
        """Memory of what is loaded or being loaded: estimated from its files' sizes by measured loads."""
        return self._bytes

    def _release(self, key: Hashable) -> None:
        with self._lock:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
            place = self._places.get(key)
            gone = [self._pop(key)] if place is not None and self._is_over(key, place) else []
            gone += self._pop_surplus()
        gone.clear()  # freed outside the lock; the next load trims

    def _load(self, key: Hashable, place: _Place, file_bytes: int, load: Callable[[], Session]) -> None:
        with self._lock:
            self._loads += 1
            alone = self._loads == 1
        before = self._heap()
        try:
            session = load()
        except BaseException as error:
            with self._lock:
                self._loads -= 1
                self._pop(key)
            place.session.set_exception(error)
            return
        after = self._heap()
        with self._lock:
            alone = alone and self._loads == 1
            self._loads -= 1
            if alone and before is not None and after is not None:
                self._note(file_bytes, (after - before) / file_bytes)
            self._bytes -= place.bytes
            place.bytes = self._estimate(file_bytes)
            self._bytes += place.bytes
            place.session.set_result(session)

    def _note(self, file_bytes: int, ratio: float) -> None:
        low, high = BOUNDS[0], self._most()
        self._ratios.setdefault(file_bytes, deque(maxlen=SAMPLES)).append(min(max(ratio, low), high))

    def _estimate(self, file_bytes: int) -> int:
        """Graphs of one form have files of one size, so each size is measured by itself.

        The median, because other threads take and give back memory during a load.
        """
        own = self._ratios.get(file_bytes)
        return round(file_bytes * (statistics.median(own) if own else FIRST_RATIO))

    def _pop_surplus(self) -> list[_Place]:
        """What has to go for the rest to be within the limit."""
        surplus: list[_Place] = []
        if self.limit_bytes is None or self._bytes <= self.limit_bytes:
            return surplus
        for key, place in list(self._places.items()):
            if self._bytes <= self.limit_bytes:
                break
            if not self._stays(key, place) and key not in self._pinned:
                surplus.append(self._pop(key))
        return surplus

    def _is_over(self, key: Hashable, place: _Place) -> bool:
        """Is it a leftover of a bundle that was replaced?"""
        return self._wanted is not None and key not in self._wanted and not self._stays(key, place)

    def _stays(self, key: Hashable, place: _Place) -> bool:
        return self._held[key] > 0 or not place.session.done()

    def _pop(self, key: Hashable) -> _Place:
        place = self._places.pop(key)
        self._bytes -= place.bytes
        return place
