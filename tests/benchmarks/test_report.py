"""Medians over rounds, ratios to the bare loop."""

from __future__ import annotations

from benchmarks.load import Answers
from benchmarks.machine import facts
from benchmarks.report import Row, medians, table


def _rows() -> list[Row]:
    http = Row("64 px crop", 8, "service")
    for rate in (40, 90, 50):
        http.add(Answers([0.1] * rate, errors=1, wall_s=1.0), cpu_s=0.02 * rate)
    photos = Row("bare, photos", of="pictures", rates=[500])
    return [
        Row("bare, batch 1", rates=[80, 75, 70]),
        Row("bare, batch 8", rates=[100, 99, 101]),
        photos,
        http,
    ]


def test_medians_and_share_of_the_better_bare_loop() -> None:
    slow, fast, photos, http = medians(_rows())
    assert (slow["swaps_per_s"], slow["of_bare"], slow["p50_ms"]) == (75, 0.75, None)
    assert fast["of_bare"] == photos["of_bare"] == 1
    assert (http["swaps_per_s"], http["of_bare"], http["p50_ms"], http["errors"]) == (50, 0.5, 100, 3)
    assert http["swaps_per_s_by_round"] == [40, 90, 50]
    assert (http["p99_ms"], http["cpu_ms"]) == (100, 20)


def test_a_server_that_only_failed_has_a_rate_and_no_times() -> None:
    bare, peer = Row("bare", rates=[100]), Row("peer", 1, "peer same")
    peer.add(Answers([], errors=5, wall_s=1.0), cpu_s=1.0)
    _, failed = medians([bare, peer])
    assert (failed["swaps_per_s"], failed["p99_ms"], failed["cpu_ms"], failed["errors"]) == (0, None, None, 5)


def test_table_has_a_line_for_every_row() -> None:
    report = {
        "machine": {"cores": 2, "processor": "P", "python": "3.12"},
        "bundle": "demo", "identity": "will", "provider": "CPUExecutionProvider", "load": "hey",
        "precision": "int8", "rounds": 3, "seconds": 4.0, "start_s": 1.5,
        "memory_idle_mib": None, "memory_peak_mib": 200.0,
        "rows": medians(_rows()),
    }  # fmt: skip
    lines = table(report).splitlines()
    assert lines[-1].split() == ["64", "px", "crop,", "c=8", "50.0", "0.50", *["100.0"] * 3, "20.0", "3"]
    assert lines[-4].split() == ["bare,", "batch", "1", "75.0", "0.75", "-", "-", "-", "-", "0"]
    assert "memory: - MiB when ready, 200.0 at its peak" in lines[3]


def test_facts_name_the_machine_without_giving_it_away() -> None:
    found = facts()
    assert isinstance(found["cores"], int)
    assert "pillow" in found["packages"]
    assert "/" not in str(found["system"])
