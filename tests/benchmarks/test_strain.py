"""What is told of rounds under strain, and of memory over a soak."""

from __future__ import annotations

from benchmarks.strain import growth, over_rounds


def test_growth_is_that_after_the_first_minute() -> None:
    samples = [(1.0, 150.0), (59.0, 200.0), (61.0, 199.0), (120.0, 205.0), (1200.0, 204.0)]
    assert growth(samples) == {"first_minute_mib": 200.0, "highest_mib": 205.0, "growth_percent": 2.5}


def test_memory_that_falls_has_not_grown() -> None:
    assert growth([(1.0, 200.0), (61.0, 190.0), (200.0, 180.0)])["growth_percent"] == 0


def test_a_short_soak_compares_its_halves() -> None:
    assert growth([(1.0, 100.0), (2.0, 100.0), (4.0, 110.0)])["growth_percent"] == 10
    assert growth([(1.0, 100.0)]) == {}


def test_rounds_become_medians_and_losses_add_up() -> None:
    def entry(ratio: float, lost: int, late: float) -> dict[str, object]:
        return {
            "sent": 100, "lost": lost, "unexpected": 0, "statuses": {"200": 100 - lost},
            "left_late_ms_p99": late, "p50_ms": 10.0, "p99_ms": 10 * ratio, "p99_over_p50": ratio,
        }  # fmt: skip

    told = over_rounds([entry(3.0, 0, 0.2), entry(2.0, 1, 1.5), entry(9.0, 0, 0.1)])
    assert (told["p99_over_p50"], told["lost"], told["sent"], told["left_late_ms_p99"]) == (3.0, 1, 300, 1.5)
    assert over_rounds([]) == {}
