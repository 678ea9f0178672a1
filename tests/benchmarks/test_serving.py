"""The whole benchmark, short, on the bundle of identity networks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import serving

BUNDLE = Path(__file__).parents[1] / "data" / "identity-bundle"


@pytest.mark.slow
def test_a_short_run_gives_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--rounds", "1", "--seconds", "0.2", "--concurrency", "1", "2", "--device", "cpu"]
    short += ["--only", "--soak", "0.02"]
    assert serving.main(["--bundle", str(BUNDLE), *short, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "serving-cpu.json").read_text())
    assert [(row["name"], row["concurrency"]) for row in report["rows"]] == [
        ("bare onnxruntime, batch 1", None),
        ("bare onnxruntime, batch 8", None),
        ("bare library, 64 px crop", None),
        ("bare library, 250 px photo", None),
        ("64 px crop", 1),
        ("64 px crop", 2),
        ("250 px photo", 1),
        ("250 px photo", 2),
    ]
    assert all(row["swaps_per_s"] > 0 and row["errors"] == 0 for row in report["rows"])
    assert report["start_s"] > 0
    assert report["steady"]["sent"] > 0
    assert report["flooded"]["lost"] == report["flooded"]["unexpected"] == 0
    assert report["soak"]["answers"] > 0
    verdicts = {goal["goal"]: goal["verdict"] for goal in report["goals"]}
    assert verdicts["over the best peer with our graphs, c=32"] == "not measured"
    assert verdicts["answers at 4x capacity that are lost or not 200, 503, 504"] == "reached"
    assert not re.search(r'"/\w', json.dumps(report)), "a path of this machine"
    printed = capsys.readouterr().out
    assert "250 px photo, c=2" in printed
    assert "not measured" in printed


def test_a_missing_bundle_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.main(["--bundle", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.serving: ")
