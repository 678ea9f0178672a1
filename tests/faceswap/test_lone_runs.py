"""Lone runs are wide, those that overlap are narrow, and for a while so are all that follow."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from faceswap import Swapper
from faceswap.lone_runs import AFTER_S, LoneRuns, LoneSession

ROOT = Path(__file__).parents[2]


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_who_runs_alone_is_told_so_one_after_the_other() -> None:
    runs = LoneRuns(Time())
    for _ in range(3):
        assert runs.begin()
        runs.end()


def test_after_an_overlap_nobody_is_alone_for_a_while() -> None:
    time = Time()
    runs = LoneRuns(time)
    assert runs.begin()
    assert not runs.begin()
    runs.end()
    runs.end()
    assert not runs.begin()
    runs.end()
    time.now += AFTER_S
    assert runs.begin()


def test_a_session_runs_wide_alone_and_narrow_in_company_also_when_runs_fail() -> None:
    inside, go_on = threading.Event(), threading.Event()
    ran = list[str]()

    def wide(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        ran.append("wide")
        inside.set()
        assert go_on.wait(20)
        return batch + 1

    def narrow(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        ran.append("narrow")
        raise ValueError(f"broken: {len(batch)}")

    time = Time()
    session = LoneSession("CPU", narrow, wide, LoneRuns(time))
    other = threading.Thread(target=session.run, args=[np.zeros(1)])
    other.start()
    assert inside.wait(20)
    with pytest.raises(ValueError, match="broken"):
        session.run(np.zeros(1))
    go_on.set()
    other.join(20)
    time.now += AFTER_S
    assert session.run(np.zeros(1)) == 1
    assert ran == ["wide", "narrow", "wide"]


def test_both_give_the_same_latents() -> None:
    bundle = ROOT / "bundles/demo"
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    narrow = Swapper.open(bundle, "cpu", 1).encode(crops)
    wide = Swapper.open(bundle, "cpu", 1, lone_threads=2).encode(crops)
    assert np.abs(narrow - wide).max() <= 1e-4 * np.abs(narrow).max()
