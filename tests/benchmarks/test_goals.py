"""The table of goals: which figures it takes, and on which side of a bound they must lie."""

from __future__ import annotations

from typing import Any

from benchmarks.goals import Goal, Verdict, goals, table


def row(
    kind: str, name: str, concurrency: int | None, rate: float, of: str = "networks", **ms: float
) -> dict[str, Any]:
    times = {"p50_ms": None, "p99_ms": None, **ms}
    return {"kind": kind, "name": name, "concurrency": concurrency, "swaps_per_s": rate, "of": of, **times}


def found(**more: Any) -> dict[str, Goal]:
    rows = [
        row("bare", "batch 1", None, 190),
        row("bare", "batch 8", None, 200),
        row("bare", "library", None, 100, of="pictures"),
        row("service", "64 px crop", 1, 90, p50_ms=10.0),
        row("service", "64 px crop", 32, 180),
        row("service", "250 px photo", 32, 80),
        row("service raw", "64 px crop, raw", 8, 185, p99_ms=60.0),
        row("peer fp32", "a", 8, 40, p99_ms=200.0),
        row("peer fp32", "b", 8, 37, p99_ms=200.0),
        row("peer same", "a", 8, 150, p99_ms=50.0),
        row("peer same", "b", 8, 0.0),
    ]
    report = {"rows": rows, "bare_call_ms": 8.0, "start_s": 1.5, "memory_idle_mib": 251.0, **more}
    return {goal.name: goal for goal in goals(report)}


def test_ratios_take_the_best_ceiling_and_the_best_peer() -> None:
    all_goals = found()
    crops = all_goals["64 px crops, c=32, over the bare graphs"]
    assert (crops.figure, crops.verdict) == (0.9, Verdict.REACHED)
    photos = next(goal for name, goal in all_goals.items() if name.startswith("250 px photos"))
    assert (photos.figure, photos.verdict) == (0.8, Verdict.MISSED)
    assert all_goals["over the best peer with fp32 graphs, c=8"].figure == 185 / 40
    assert all_goals["over the best peer with our graphs, c=8"].figure == 185 / 150
    p99 = all_goals["p99 over the lowest of the peers with our graphs, c=8"]
    assert (p99.figure, p99.verdict) == (60 / 50, Verdict.MISSED)


def test_what_was_not_measured_is_said() -> None:
    all_goals = found()
    assert all_goals["over the best peer with our graphs, c=128"].verdict is Verdict.OPEN
    assert all_goals["growth of memory after the first minute of a soak"].verdict is Verdict.OPEN
    assert all_goals["answers at 4x capacity that are lost or not 200, 503, 504"].verdict is Verdict.OPEN


def test_bounds_belong_to_the_good_side() -> None:
    all_goals = found(soak={"growth_percent": 3.1}, steady={"p99_over_p50": 4.0})
    assert all_goals["start to ready"].verdict is Verdict.REACHED
    assert all_goals["memory of the ready service"].verdict is Verdict.MISSED
    assert all_goals["unloaded p50 over HTTP minus the bare graphs, 64 px crops"].figure == 2.0
    assert all_goals["growth of memory after the first minute of a soak"].verdict is Verdict.MISSED
    assert all_goals["p99 / p50 of Poisson arrivals at 80 % of capacity"].verdict is Verdict.REACHED


def test_one_lost_answer_misses_the_goal() -> None:
    name = "answers at 4x capacity that are lost or not 200, 503, 504"
    flooded = {"lost": 0, "unexpected": 0, "goodput_over_capacity": 0.96}
    assert found(flooded=flooded)[name].verdict is Verdict.REACHED
    assert found(flooded=flooded | {"lost": 1})[name].verdict is Verdict.MISSED
    assert found(flooded=flooded | {"unexpected": 1})[name].verdict is Verdict.MISSED


def test_a_goal_for_people_and_as_json() -> None:
    goal = Goal("start to ready", 1.25, 1.5, False, " s")
    assert goal.as_json() == {
        "goal": "start to ready", "figure": 1.25, "bound": "<= 1.5 s", "verdict": "reached",
    }  # fmt: skip
    assert table([goal, Goal("x", None, 4)]).splitlines()[1].split() == [
        "x",
        "-",
        ">=",
        "4",
        "not",
        "measured",
    ]
