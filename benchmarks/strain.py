"""The service at and beyond its capacity: Poisson arrivals, four times too many, and for minutes."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

from benchmarks.arrivals import Arrivals, arrive
from benchmarks.load import Post, send
from benchmarks.progress import steps
from benchmarks.server import Server

STEADY, FLOOD = 0.8, 4.0
"""Requests per second as shares of the capacity."""
SETTLED_S = 60.0
"""Memory may grow so long: pools, arenas and caches fill up."""
EVERY_S = 1.0


def steady(post: Post, capacity: float, seconds: float, seed: int) -> dict[str, Any]:
    """How much later the last hundredth is answered where there is room for all."""
    arrivals = arrive(post, STEADY * capacity, seconds, seed)
    answers = arrivals.answers()
    p50, p99 = answers.percentile(50), answers.percentile(99)
    return _counts(arrivals) | {"p50_ms": p50, "p99_ms": p99, "p99_over_p50": p99 / p50}


def flooded(post: Post, capacity: float, seconds: float, seed: int) -> dict[str, Any]:
    """How much of the capacity is left where most must be turned away."""
    arrivals = arrive(post, FLOOD * capacity, seconds, seed)
    return _counts(arrivals) | {"goodput_over_capacity": arrivals.answers().rate / capacity}


def _counts(arrivals: Arrivals) -> dict[str, Any]:
    return {
        "sent": arrivals.sent,
        "statuses": arrivals.statuses,
        "lost": arrivals.lost,
        "unexpected": arrivals.unexpected,
        "left_late_ms_p99": arrivals.late_ms,
        "generator_cores": arrivals.cores,
    }


def over_rounds(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """One entry of the rounds' medians; what was lost is summed, and the worst delay of the load kept."""
    if not rounds:
        return {}
    summed = {key: sum(entry[key] for entry in rounds) for key in ("sent", "lost", "unexpected")}
    late = max(entry["left_late_ms_p99"] for entry in rounds)
    ratios = [key for key in rounds[0] if key.endswith(("_ms", "_over_p50", "_over_capacity", "_cores"))]
    medians = {key: round(statistics.median(entry[key] for entry in rounds), 3) for key in ratios}
    statuses = [entry["statuses"] for entry in rounds]
    return summed | {"left_late_ms_p99": late, "statuses_by_round": statuses} | medians


def soak(server: Server, post: Post, concurrency: int, capacity: float, minutes: float) -> dict[str, Any]:
    """Memory over `minutes` at capacity: how much the highest figure lies above that of the first minute.

    Of a soak shorter than two minutes the first half counts as the first minute.
    """
    samples: list[tuple[float, float]] = []
    done = threading.Event()
    start = time.perf_counter()

    def watch() -> None:
        with steps(round(60 * minutes / EVERY_S)) as step:
            while not done.wait(EVERY_S):
                if (mib := server.memory_mib()) is not None:
                    samples.append((time.perf_counter() - start, mib))
                    step(f"{mib:.0f} MiB")

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answers = send(post.url, post.body, concurrency, round(capacity * 60 * minutes), post.media_type)
    finally:
        done.set()
        watcher.join()
    return {
        "minutes": round(answers.wall_s / 60, 2),
        "answers": len(answers.seconds),
        "errors": answers.errors,
        "swaps_per_s": round(answers.rate, 2),
        **growth(samples),
    }


def growth(samples: list[tuple[float, float]]) -> dict[str, Any]:
    """Of (seconds, MiB) in the order of time; empty where there is nothing to compare."""
    if len(samples) < 2:
        return {}
    settled = min(SETTLED_S, samples[-1][0] / 2)
    first = max(mib for at, mib in samples if at <= settled or at == samples[0][0])
    later = max(mib for at, mib in samples if at > settled)
    return {
        "first_minute_mib": round(first, 1),
        "highest_mib": round(max(first, later), 1),
        "growth_percent": round(max(0.0, 100 * (later / first - 1)), 2),
    }
