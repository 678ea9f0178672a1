"""Many clients at once: those that hold on to connections, and ten times more than there is room for."""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.arrivals import arrive
from benchmarks.load import Post, send_for
from benchmarks.server import HOST, Server, serving
from benchmarks.strain import EVERY_S, growth
from tests.service.fakes import photo
from tests.torture.sizes import Tally, sized
from tests.torture.slow_clients import MODES

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
SETTLED_S = 4.0
"""In its first seconds an attack is a flood: all connections come at once, and slow bodies may take all
places (docs/threat-model.md)."""
CONNECTIONS = 32
TIMES = 10


def quantile_95_ms(seconds: list[float]) -> float:
    return round(1000 * statistics.quantiles(seconds, n=20, method="inclusive")[18], 2)


class Honest:
    """A client with a connection of its own for each request, as curl has; how long each took."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.body = photo()
        self.refused = 0
        """With 503, since the last `waits` began."""

    def waits(self, seconds: float) -> tuple[list[float], list[float]]:
        """Of swaps and of health, in turns, for `seconds`."""
        swaps, healths = list[float](), list[float]()
        self.refused = 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(healths) < 2:
            swaps.append(self._ask("POST", "/swap?target=echo&crop=none", self.body))
            healths.append(self._ask("GET", "/health", None))
            time.sleep(0.005)
        return swaps, healths

    def _ask(self, method: str, path: str, body: bytes | None) -> float:
        start = time.perf_counter()
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, {"Content-Type": "image/png"} if body else {})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status in (200, 503), text
            self.refused += answer.status == 503
        finally:
            connection.close()
        return time.perf_counter() - start


@contextmanager
def attacked(mode: str, count: int, port: int, seconds: float) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.torture.slow_clients", mode, str(count), str(port), str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as attackers:
        try:
            time.sleep(sized(0.3, SETTLED_S))
            yield
        finally:
            made, _ = attackers.communicate(timeout=seconds + PATIENCE_S)
    assert attackers.returncode == 0
    assert int(made) >= count, "they must have got in"


@pytest.mark.parametrize("mode", MODES)
def test_slow_clients_hold_nobody_up(mode: str, identity_bundle: Path, tally: Tally) -> None:
    count, seconds = sized(60, 500), sized(0.6, 45.0)
    with serving(identity_bundle, "cpu", more={"FACESWAPD_LOG_LEVEL": "error"}) as server:
        honest = Honest(server.port)
        honest.waits(seconds / 10)  # warm
        before = honest.waits(seconds)
        assert honest.refused == 0
        with attacked(mode, count, server.port, seconds + sized(0.6, 2 * SETTLED_S)):
            during = honest.waits(seconds)
    for what, quiet, loud in zip(("swap", "health"), before, during, strict=True):
        first, second = quantile_95_ms(quiet), quantile_95_ms(loud)
        figures = {"alone_p95_ms": first, "p95_ms": second, "ratio": round(second / first, 2)}
        tally.note(f"{what} beside {count} slow clients: {mode}", asked=len(loud), **figures)
    tally.note(f"swap beside {count} slow clients: {mode}", refused=honest.refused)


def test_ten_times_too_many(tally: Tally) -> None:
    """Every request gets an answer, which is a face or a clear no."""
    seconds = sized(1.5, 120.0)
    room = dict.fromkeys(("FACESWAPD_CONNECTIONS", "FACESWAPD_CONNECTIONS_PER_ADDRESS"), "10000")
    with serving(ROOT / "bundles/demo", "cpu", more=room | {"FACESWAPD_LOG_LEVEL": "error"}) as server:
        post = Post(f"http://{HOST}:{server.port}/swap?target=will&crop=none", photo(), "image/png")
        send_for(post, CONNECTIONS, sized(0.5, 5.0))
        _, closed = send_for(post, CONNECTIONS, sized(1.0, 20.0))
        samples: list[tuple[float, float]] = []
        with sampled(server, samples):
            flood = arrive(post, TIMES * closed.rate, seconds)
    assert (flood.lost, flood.unexpected) == (0, 0)
    assert flood.statuses["200"] > 0
    tally.note(
        "ten times the capacity",
        seconds=seconds,
        sent=flood.sent,
        lost=flood.lost,
        swaps_per_s=round(flood.answers().rate, 1),
        goodput_over_capacity=round(flood.answers().rate / closed.rate, 3),
        generator_cores=flood.cores,
        **growth(samples),
    )


@contextmanager
def sampled(server: Server, samples: list[tuple[float, float]]) -> Iterator[None]:
    """Memory of the server, now and then, during the block."""
    over, start = threading.Event(), time.perf_counter()

    def watch() -> None:
        while not over.wait(EVERY_S / 4):
            if (mib := server.memory_mib()) is not None:
                samples.append((time.perf_counter() - start, mib))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
