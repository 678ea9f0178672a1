"""What the serving path should reach, and whether it did: each goal a ratio or a bound of one run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    REACHED = "reached"
    MISSED = "not reached"
    OPEN = "not measured"


@dataclass(frozen=True, slots=True)
class Goal:
    """`figure` is None where the run did not measure it; `at_least` tells which side of `bound` is good."""

    name: str
    figure: float | None
    bound: float
    at_least: bool = True
    unit: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.figure is None:
            return Verdict.OPEN
        good = self.figure >= self.bound if self.at_least else self.figure <= self.bound
        return Verdict.REACHED if good else Verdict.MISSED

    def as_json(self) -> dict[str, Any]:
        return {
            "goal": self.name,
            "figure": None if self.figure is None else round(self.figure, 3),
            "bound": f"{'>=' if self.at_least else '<='} {self.bound:g}{self.unit}",
            "verdict": self.verdict.value,
        }


def goals(report: dict[str, Any]) -> list[Goal]:
    """All goals, in the order of their table; `report` is what `benchmarks.serving` has measured so far."""
    return [*_ceilings(report), *_against_peers(report), *_latency(report), *_service(report)]


def _ceilings(report: dict[str, Any]) -> list[Goal]:
    return [
        Goal("64 px crops, c=32, over the bare graphs", _of_ceiling(report, "64 px crop", "networks"), 0.90),
        Goal(
            "250 px photos, c=32, over the bare loop of read, detect, infer, write",
            _of_ceiling(report, "250 px photo", "pictures"),
            0.85,
        ),
    ]


def _of_ceiling(report: dict[str, Any], name: str, ceiling: str) -> float | None:
    rates = [row["swaps_per_s"] for row in _rows(report, "bare") if row["of"] == ceiling]
    return _over(_figure(report, "service", name, 32, "swaps_per_s"), max(rates, default=None))


def _against_peers(report: dict[str, Any]) -> list[Goal]:
    """Rates over the best peer's at the same concurrency; p99 over the lowest of the peers'."""
    found = []
    for kind, bounds, what in (
        ("peer fp32", {1: 4.0, 8: 4.0, 32: 4.0, 128: 4.0}, "fp32 graphs"),
        ("peer same", {1: 1.1, 8: 1.1, 32: 1.0, 128: 1.0}, "our graphs"),
    ):
        for concurrency, bound in bounds.items():
            ratio = _over(
                _figure(report, "service raw", None, concurrency, "swaps_per_s"),
                max(_of_peers(report, kind, concurrency, "swaps_per_s"), default=None),
            )
            found.append(Goal(f"over the best peer with {what}, c={concurrency}", ratio, bound))
    for concurrency in (1, 8, 32, 128):
        ratio = _over(
            _figure(report, "service raw", None, concurrency, "p99_ms"),
            min(_of_peers(report, "peer same", concurrency, "p99_ms"), default=None),
        )
        found.append(
            Goal(f"p99 over the lowest of the peers with our graphs, c={concurrency}", ratio, 1.0, False)
        )
    return found


def _latency(report: dict[str, Any]) -> list[Goal]:
    unloaded = _figure(report, "service", "64 px crop", 1, "p50_ms")
    bare = report.get("bare_call_ms")
    steady, flooded = report.get("steady") or {}, report.get("flooded") or {}
    kept = None if not flooded else float(flooded["lost"] + flooded["unexpected"])
    return [
        Goal(
            "unloaded p50 over HTTP minus the bare graphs, 64 px crops",
            None if unloaded is None or bare is None else unloaded - bare,
            1.5,
            False,
            " ms",
        ),
        Goal("p99 / p50 of Poisson arrivals at 80 % of capacity", steady.get("p99_over_p50"), 4.0, False),
        Goal("goodput over capacity at 4x capacity", flooded.get("goodput_over_capacity"), 0.95),
        Goal("answers at 4x capacity that are lost or not 200, 503, 504", kept, 0.0, False),
    ]


def _service(report: dict[str, Any]) -> list[Goal]:
    soak = report.get("soak") or {}
    return [
        Goal("memory of the ready service", report.get("memory_idle_mib"), 250.0, False, " MiB"),
        Goal("start to ready", report.get("start_s"), 1.5, False, " s"),
        Goal(
            "growth of memory after the first minute of a soak", soak.get("growth_percent"), 3.0, False, " %"
        ),
    ]


def _rows(report: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [row for row in report["rows"] if row["kind"] == kind]


def _figure(report: dict[str, Any], kind: str, name: str | None, concurrency: int, key: str) -> float | None:
    """The one row of `kind` at `concurrency`; of the picture `name`, where there are several."""
    for row in _rows(report, kind):
        if row["concurrency"] == concurrency and name in (None, row["name"]):
            return None if row[key] is None else float(row[key])
    return None


def _of_peers(report: dict[str, Any], kind: str, concurrency: int, key: str) -> list[float]:
    """Of those peers that answered; one whose every answer failed has no p99."""
    rows = [row for row in _rows(report, kind) if row["concurrency"] == concurrency]
    return [float(row[key]) for row in rows if row[key] is not None and row["swaps_per_s"] > 0]


def _over(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


def table(found: list[Goal]) -> str:
    """A line for each goal, for people."""
    width = max(len(goal.name) for goal in found)
    return "\n".join(
        f"{goal.name:{width}}  {'-' if goal.figure is None else format(goal.figure, '.2f'):>8}"
        f"  {goal.as_json()['bound']:>10}  {goal.verdict.value}"
        for goal in found
    )
