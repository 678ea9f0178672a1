"""Rows of figures, one a round; their medians as a table for people and as JSON for later."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bare import Rate
from benchmarks.load import Answers

COLUMNS = ("swaps/s", "of bare", "p50 ms", "p95 ms", "p99 ms", "cpu ms", "errors")


@dataclass(slots=True)
class Row:
    """One line of the table; each list holds one figure per round.

    `kind` says who answered: "bare" (nobody: a loop without HTTP), "service", "service raw" (the photo is
    the whole body, as the peers get it), "peer fp32" or "peer same" (with the service's own graphs).
    `of` is the ceiling it belongs to: "networks", "crops" or "pictures".
    """

    name: str
    concurrency: int | None = None
    kind: str = "bare"
    of: str = "networks"
    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    """Processor time for a swap: of the loop, or of the server for a good answer."""
    errors: int = 0

    def add_bare(self, rate: Rate) -> None:
        """One round of a loop without HTTP."""
        self.rates.append(rate.swaps_per_s)
        self.cpu_ms.append(rate.cpu_ms)

    def add(self, answers: Answers, cpu_s: float | None = None) -> None:
        """One round over HTTP; `cpu_s` is what the server's processes used for all of it."""
        self.rates.append(answers.rate)
        if answers.seconds:
            for percent, figures in ((50, self.p50_ms), (95, self.p95_ms), (99, self.p99_ms)):
                figures.append(answers.percentile(percent))
            if cpu_s is not None:
                self.cpu_ms.append(1000 * cpu_s / len(answers.seconds))
        self.errors += answers.errors


def medians(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """JSON-ready rows. `of_bare` is the share of the best bare row with the same `of`."""
    ceilings: dict[str, float] = {}
    for row in rows:
        if row.kind == "bare":
            ceilings[row.of] = max(statistics.median(row.rates), ceilings.get(row.of, 0.0))
    return [
        {
            "kind": row.kind,
            "name": row.name,
            "concurrency": row.concurrency,
            "of": row.of,
            "swaps_per_s": median(row.rates, 2),
            "of_bare": round(statistics.median(row.rates) / ceilings[row.of], 3) if row.rates else None,
            "p50_ms": median(row.p50_ms, 2),
            "p95_ms": median(row.p95_ms, 2),
            "p99_ms": median(row.p99_ms, 2),
            "cpu_ms": median(row.cpu_ms, 2),
            "errors": row.errors,
            "swaps_per_s_by_round": [round(rate, 2) for rate in row.rates],
        }
        for row in rows
    ]


def median(figures: Sequence[float | None], digits: int) -> float | None:
    """Of those that are there; None if there are none."""
    there = [figure for figure in figures if figure is not None]
    return round(statistics.median(there), digits) if there else None


def table(report: dict[str, Any]) -> str:
    """The report as text of fixed width."""
    machine = report["machine"]
    lines = [
        f"bundle {report['bundle']}, identity {report['identity']}, {report['provider']}, "
        f"precision {report['precision'] or 'as the library chooses'}",
        f"{machine['cores']} cores of {machine['processor']}, Python {machine['python']}",
        f"medians of {report['rounds']} rounds of {report['seconds']:g} s a row, load by {report['load']}",
        f"ready {_or_dash(report['start_s'])} s after process start; "
        f"memory: {_or_dash(report['memory_idle_mib'])} MiB when ready, "
        f"{_or_dash(report['memory_peak_mib'])} at its peak",
        "",
        f"{'':34}" + "".join(f"{word:>9}" for word in COLUMNS),
    ]
    for row in report["rows"]:
        name = row["name"] if row["concurrency"] is None else f"{row['name']}, c={row['concurrency']}"
        times = "".join(f"{_or_dash(row[key]):>9}" for key in ("p50_ms", "p95_ms", "p99_ms", "cpu_ms"))
        share = "-" if row["of_bare"] is None else f"{row['of_bare']:.2f}"
        lines.append(f"{name:34}{_or_dash(row['swaps_per_s']):>9}{share:>9}{times}{row['errors']:9d}")
    return "\n".join(lines)


def _or_dash(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.1f}"
