"""Medians over rounds, ratios to the bare loop."""

from __future__ import annotations

from benchmarks.load import Answers
from benchmarks.machine import facts
from benchmarks.report import Row, medians, table


def _rows() -> list[Row]:
    http = Row("64 px crop", 8)
    for rate in (40, 90, 50):
        http.add(Answers([0.1] * rate, errors=1, wall_s=1.0))
    return [Row("bare, batch 1", rates=[80, 75, 70]), Row("bare, batch 8", rates=[100, 99, 101]), http]


def test_medians_and_share_of_the_better_bare_loop() -> None:
    slow, fast, http = medians(_rows())
    assert (slow["swaps_per_s"], slow["of_bare"], slow["p50_ms"]) == (75, 0.75, None)
    assert fast["of_bare"] == 1
    assert (http["swaps_per_s"], http["of_bare"], http["p50_ms"], http["errors"]) == (50, 0.5, 100, 3)
    assert http["swaps_per_s_by_round"] == [40, 90, 50]


def test_table_has_a_line_for_every_row() -> None:
    report = {
        "machine": {"cores": 2, "processor": "P", "python": "3.12"},
        "bundle": "demo", "identity": "will", "provider": "CPUExecutionProvider", "load": "hey",
        "rounds": 3, "seconds": 4.0, "start_s": 1.5, "memory_idle_mib": None, "memory_peak_mib": 200.0,
        "rows": medians(_rows()),
    }  # fmt: skip
    lines = table(report).splitlines()
    assert lines[-1].split() == ["64", "px", "crop,", "c=8", "50.0", "0.50", "100.0", "100.0", "3"]
    assert lines[-3].split() == ["bare,", "batch", "1", "75.0", "0.75", "-", "-", "0"]
    assert "memory: - MiB when ready, 200.0 at its peak" in lines[3]


def test_facts_name_the_machine_without_giving_it_away() -> None:
    found = facts()
    assert isinstance(found["cores"], int)
    assert "pillow" in found["packages"]
    assert "/" not in str(found["system"])
