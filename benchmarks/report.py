"""Rows of figures, one a round; their medians as a table for people and as JSON for later."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import Answers


@dataclass(slots=True)
class Row:
    """One line of the table; each list holds one figure per round."""

    name: str
    concurrency: int | None = None
    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    errors: int = 0

    def add(self, answers: Answers) -> None:
        """One round over HTTP."""
        self.rates.append(answers.rate)
        self.p50_ms.append(answers.percentile(50))
        self.p95_ms.append(answers.percentile(95))
        self.errors += answers.errors


def medians(rows: list[Row]) -> list[dict[str, Any]]:
    """JSON-ready rows. `of_bare` is the share of the best row without concurrency, the bare loop."""
    ceiling = max(statistics.median(row.rates) for row in rows if row.concurrency is None)
    return [
        {
            "name": row.name,
            "concurrency": row.concurrency,
            "swaps_per_s": round(statistics.median(row.rates), 2),
            "of_bare": round(statistics.median(row.rates) / ceiling, 3),
            "p50_ms": median(row.p50_ms, 2),
            "p95_ms": median(row.p95_ms, 2),
            "errors": row.errors,
            "swaps_per_s_by_round": [round(rate, 2) for rate in row.rates],
        }
        for row in rows
    ]


def median(figures: list[float], digits: int) -> float | None:
    """None if there are no figures."""
    return round(statistics.median(figures), digits) if figures else None


def table(report: dict[str, Any]) -> str:
    """The report as text of fixed width."""
    machine = report["machine"]
    lines = [
        f"bundle {report['bundle']}, identity {report['identity']}, {report['provider']}",
        f"{machine['cores']} cores of {machine['processor']}, Python {machine['python']}",
        f"medians of {report['rounds']} rounds of {report['seconds']:g} s a row, load by {report['load']}",
        f"ready {_or_dash(report['start_s'])} s after process start; "
        f"memory: {_or_dash(report['memory_idle_mib'])} MiB when ready, "
        f"{_or_dash(report['memory_peak_mib'])} at its peak",
        "",
        f"{'':34}{'swaps/s':>9}{'of bare':>9}{'p50 ms':>9}{'p95 ms':>9}{'errors':>8}",
    ]
    for row in report["rows"]:
        name = row["name"] if row["concurrency"] is None else f"{row['name']}, c={row['concurrency']}"
        times = "".join(f"{_or_dash(row[key]):>9}" for key in ("p50_ms", "p95_ms"))
        lines.append(f"{name:34}{row['swaps_per_s']:9.1f}{row['of_bare']:9.2f}{times}{row['errors']:8d}")
    return "\n".join(lines)


def _or_dash(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.1f}"
