"""Curves by connections, photo size, batch size and identities, as JSON, text and plots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import growth
from benchmarks.load import Answers
from benchmarks.plots import CURVES
from benchmarks.report import Row

BUNDLE = Path(__file__).parents[2] / "bundles" / "demo"


def test_a_point_is_the_median_of_its_rounds() -> None:
    row = Row("64 px crop", 8)
    for rate in (10, 30, 20):
        row.add(Answers([0.1] * rate, errors=0, wall_s=1.0))
    (point,) = growth.points({8: row})
    assert (point["at"], point["swaps_per_s"], point["p50_ms"], point["errors"]) == (8, 20, 100, 0)


@pytest.mark.slow
def test_a_short_run_gives_every_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = [
        "--rounds",
        "1",
        "--seconds",
        "0.1",
        "--connections",
        "1",
        "2",
        "--sides",
        "64",
        "--batches",
        "1",
        "--identities",
        "1",
        "3",
    ]
    folders = ["--out", str(tmp_path), "--plots", str(tmp_path / "plots")]
    pytest.importorskip("matplotlib")
    assert growth.main(["--bundle", str(BUNDLE), "--device", "cpu", *short, *folders]) == 0
    report = json.loads((tmp_path / "growth-cpu.json").read_text())
    assert [len(report[curve]) for curve in CURVES] == [2, 1, 1, 2]
    assert all(point["swaps_per_s"] > 0 and not point["errors"] for point in report["identities"])
    assert report["batch"][0]["p50_ms"] is None
    assert len(list((tmp_path / "plots").glob("*.png"))) == 4
    assert "photos by longer side" in capsys.readouterr().out


def test_a_missing_bundle_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert growth.main(["--bundle", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.growth: ")
