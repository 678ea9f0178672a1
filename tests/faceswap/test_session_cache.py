"""SessionCache: a limit of memory, the least recently used goes first, and who stays whatever happens."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy.typing as npt
import pytest

from faceswap.session_cache import FIRST_RATIO, SAMPLES, SessionCache

FILE = 100
"""Bytes of every graph here; each takes 200 of memory."""


class FakeSession:
    provider = "FakeExecutionProvider"

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return batch


class Shop:
    """A cache over a pretended heap, on which a session takes `takes` bytes; notes what it loads."""

    def __init__(self, sessions: float | None = None, takes: int = 200) -> None:
        self.heap = self.highest = 5000
        self.takes = takes
        self.loads: list[str] = []
        self.trims = 0
        limit = None if sessions is None else round(200 * sessions)
        self.cache = SessionCache(limit, heap=lambda: self.heap, trim=self._trim)

    def _trim(self) -> None:
        self.trims += 1

    def load(self, name: str) -> FakeSession:
        self.loads.append(name)
        self.heap += self.takes
        self.highest = max(self.highest, self.heap)
        session = FakeSession()
        weakref.finalize(session, self._freed).atexit = False
        return session

    def _freed(self) -> None:
        self.heap -= self.takes

    def get(self, name: str) -> None:
        self.cache.get(name, FILE, lambda: self.load(name))

    @property
    def ready(self) -> str:
        return "".join(sorted(str(key) for key in self.cache.ready))


def test_the_least_recently_used_goes_first() -> None:
    shop = Shop(sessions=3)
    for name in "abcab":
        shop.get(name)
    assert (shop.ready, shop.loads) == ("abc", ["a", "b", "c"])
    shop.get("d")
    assert shop.ready == "abd"
    shop.get("c")
    assert shop.ready == "bcd"


def test_what_goes_is_freed_before_the_next_one_comes_and_the_heap_stays_bounded() -> None:
    shop = Shop(sessions=2)
    for name in "abcdefgh" * 3:
        shop.get(name)
    assert shop.highest == 5000 + 2 * 200
    assert shop.trims == 3 * 8 - 2
    assert shop.cache.bytes == 400


def test_without_a_limit_everything_stays() -> None:
    shop = Shop()
    for number in range(100):
        shop.get(str(number))
    assert len(shop.cache.ready) == 100
    assert shop.trims == 0


def test_pinned_ones_stay_though_they_were_used_least() -> None:
    shop = Shop(sessions=2)
    shop.cache.keep("abcd", "a")
    for name in "abcd":
        shop.get(name)
    assert shop.ready == "ad"


def test_what_is_held_stays_until_it_is_released() -> None:
    shop = Shop(sessions=2)
    with shop.cache.hold("a"), shop.cache.hold("a"):
        for name in "abcd":
            shop.get(name)
        assert shop.ready == "ad"
    for name in "ef":
        shop.get(name)
    assert shop.ready == "ef"


def test_held_ones_may_go_over_the_limit_and_come_back_under_it_by_themselves() -> None:
    shop = Shop(sessions=1)
    with shop.cache.hold("a"):
        with shop.cache.hold("b"):
            shop.get("a")
            shop.get("b")
            assert shop.ready == "ab"
        assert shop.ready == "a"
    assert shop.ready == "a"


def test_a_hold_counts_as_use() -> None:
    shop = Shop(sessions=2)
    shop.get("a")
    shop.get("b")
    with shop.cache.hold("a"):
        pass
    shop.get("c")
    assert shop.ready == "ac"


def test_a_session_being_loaded_is_not_let_go() -> None:
    shop = Shop(sessions=1)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> FakeSession:
        begun.set()
        assert go_on.wait(10)
        return shop.load("a")

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(shop.cache.get, "a", FILE, slow)
        assert begun.wait(10)
        assert not shop.cache.is_ready("a")
        shop.get("b")
        go_on.set()
        assert asked.result(10)
    assert shop.cache.is_ready("a")
    shop.get("c")
    assert shop.ready == "c"


def test_a_failed_load_takes_no_room_and_fails_only_those_who_asked() -> None:
    shop = Shop(sessions=2)

    def broken() -> FakeSession:
        raise OSError("no such file")

    with shop.cache.hold("a"), pytest.raises(OSError, match="no such file"):
        shop.cache.get("a", FILE, broken)
    assert shop.cache.bytes == 0
    shop.get("a")
    assert shop.ready == "a"


def test_memory_is_estimated_by_the_loads_that_were_measured() -> None:
    shop = Shop(takes=300)
    shop.get("a")
    assert shop.cache.bytes == 300
    shop.takes = 320
    shop.get("b")
    assert shop.cache.bytes == 300 + 310, "the median of both"


def test_another_thread_s_memory_does_not_count_for_much() -> None:
    shop = Shop(takes=250)
    for name in "abcde":
        shop.get(name)
    before = shop.cache.bytes
    shop.takes = 10_000_000
    shop.get("f")
    assert shop.cache.bytes == before + 250


def test_what_cannot_be_measured_is_guessed_from_the_file() -> None:
    cache = SessionCache(heap=lambda: None)
    cache.get("a", FILE, FakeSession)
    assert cache.bytes == round(FILE * FIRST_RATIO)


def test_a_session_that_takes_nothing_here_counts_as_its_file() -> None:
    """On CUDA the weights are in the card's memory."""
    shop = Shop(takes=0)
    for name in range(SAMPLES):
        shop.get(str(name))
    assert shop.cache.bytes == FILE * SAMPLES


def keep(shop: Shop, wanted: str) -> None:
    shop.cache.keep(wanted, ())


def test_what_is_no_longer_wanted_goes_at_once() -> None:
    shop = Shop()
    for name in "abc":
        shop.get(name)
    keep(shop, "cd")
    assert (shop.ready, shop.cache.bytes, shop.heap, shop.trims) == ("c", 200, 5200, 1)


def test_what_is_no_longer_wanted_but_held_goes_when_it_is_released() -> None:
    shop = Shop()
    with shop.cache.hold("a"):
        shop.get("a")
        keep(shop, "b")
        assert shop.ready == "a"
    assert (shop.ready, shop.heap) == ("", 5000)


def test_what_is_loaded_for_one_who_held_it_before_goes_when_it_is_released() -> None:
    shop = Shop()
    with shop.cache.hold("a"):
        keep(shop, "b")
        shop.get("a")
        assert shop.ready == "a"
    assert shop.ready == ""


@pytest.mark.parametrize("call", ["hold", "get", "keep"])
def test_it_does_not_hang_while_another_loads(call: str) -> None:
    shop = Shop(sessions=2)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> FakeSession:
        begun.set()
        assert go_on.wait(10)
        return FakeSession()

    def holding() -> None:
        with shop.cache.hold("a"):
            pass

    calls: dict[str, Callable[[], None]] = {
        "hold": holding,
        "get": lambda: shop.get("b"),
        "keep": lambda: keep(shop, "b"),
    }
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(shop.cache.get, "a", FILE, slow)
        assert begun.wait(10)
        pool.submit(calls[call]).result(10)
        go_on.set()
        asked.result(10)
