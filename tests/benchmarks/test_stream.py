"""The stream's benchmark, short, on the bundle of identity networks."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from benchmarks import stream

BUNDLE = Path(__file__).parents[1] / "data" / "identity-bundle"


def test_the_camera_sways_and_comes_back() -> None:
    frames = stream.camera(160, 120)
    assert len(frames) == stream.SWAY
    assert len(set(frames)) > stream.SWAY - 5
    assert {PillowImage.open(io.BytesIO(frame)).size for frame in frames} == {(160, 120)}


@pytest.mark.slow
def test_a_short_run_gives_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--seconds", "0.5", "--streams", "1", "2", "--width", "320", "--height", "240"]
    where = ["--device", "cpu", "--fps", "10"]
    assert stream.main(["--bundle", str(BUNDLE), *short, *where, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "stream-cpu.json").read_text())
    assert [row["streams"] for row in report["rows"]] == [1, 2]
    for row in report["rows"]:
        assert row["sent"] == 5 * row["streams"] == row["answered"] + row["dropped"]
        assert row["frames_per_s"] > 0 and row["p50_ms"] > 0 and row["problems"] == {}
        assert {"read", "detect", "encode", "decode", "paste", "write"} <= set(row["steps_ms"])
    assert not re.search(r'"/\w', json.dumps(report)), "a path of this machine"
    assert "frames of 320x240" in capsys.readouterr().out


def test_a_missing_bundle_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stream.main(["--bundle", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.stream: ")
