"""Visitors who each ask for an identity of their own: some are famous, most are hardly ever asked for."""

from __future__ import annotations

import http.client
import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.server import HOST


@dataclass(frozen=True, slots=True)
class Visit:
    """One request: seconds by time.perf_counter(), and whether its decoder had to be loaded."""

    began: float
    ended: float
    good: bool
    cold: bool

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def zipf(names: Sequence[str], exponent: float, seed: int = 0) -> Iterator[str]:
    """For ever: the name of rank r as often as 1 / r ** exponent."""
    weights = list(itertools.accumulate(1 / rank**exponent for rank in range(1, len(names) + 1)))
    rng = random.Random(seed)
    while True:
        yield from rng.choices(names, cum_weights=weights, k=1000)


def visits(port: int, crop: bytes, targets: Iterator[str], concurrency: int, seconds: float) -> list[Visit]:
    """Closed loop: `concurrency` visitors post the ready `crop`, a PNG, for about `seconds`."""
    together, taking = threading.Barrier(concurrency), threading.Lock()

    def visitor() -> list[Visit]:
        connection = http.client.HTTPConnection(HOST, port, timeout=60)
        together.wait()
        end = time.perf_counter() + seconds
        mine: list[Visit] = []
        while time.perf_counter() < end:
            with taking:
                target = next(targets, None)
            if target is None:
                break
            mine.append(_visit(connection, crop, target))
        connection.close()
        return mine

    with ThreadPoolExecutor(concurrency) as pool:
        jobs = [pool.submit(visitor) for _ in range(concurrency)]
        return [visit for job in jobs for visit in job.result()]


def beside_cold(all_of_them: Sequence[Visit]) -> list[Visit]:
    """The warm ones that were under way while another one waited for its decoder."""
    cold = [visit for visit in all_of_them if visit.cold]
    return [
        visit
        for visit in all_of_them
        if not visit.cold and any(c.began < visit.ended and visit.began < c.ended for c in cold)
    ]


def _visit(connection: http.client.HTTPConnection, crop: bytes, target: str) -> Visit:
    began = time.perf_counter()
    try:
        connection.request("POST", f"/swap?crop=none&target={target}", crop, {"Content-Type": "image/png"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return Visit(began, time.perf_counter(), good=False, cold=False)
    cold = "load;dur=" in answer.headers.get("Server-Timing", "")
    return Visit(began, time.perf_counter(), answer.status == http.client.OK, cold)
