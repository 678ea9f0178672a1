"""What is told of one replica beside several."""

from __future__ import annotations

from benchmarks.scale_out import points, table


def run(rate: float, errors: int = 0) -> dict[str, float]:
    return {"swaps_per_s": rate, "p50_ms": 10.0, "p99_ms": 20.0, "errors": errors}


def test_medians_beside_the_smallest_number_of_replicas() -> None:
    found = points({2: [run(19), run(20), run(90)], 1: [run(10, 1), run(10, 1), run(1)]})
    assert [(p["replicas"], p["swaps_per_s"], p["times_the_first"], p["errors"]) for p in found] == [
        (1, 10, 1, 2),
        (2, 20, 2, 0),
    ]
    assert table(found).splitlines()[2].split() == ["2", "20", "2.0", "10.0", "20.0", "0"]
