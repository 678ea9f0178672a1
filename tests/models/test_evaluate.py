"""The evaluation, on networks whose figures are known: `echo` and `negative` of the identity bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from faceswap import Swapper
from faceswap.bundle import Bundle
from models.dataset import centre, held_out, load_crops
from models.evaluate import Sets, evaluate, main, table
from models.metrics import Faces
from tests.models.fakes import ColourJudge

Result = tuple[dict[str, Any], list[Tensor]]


def pictures(files: list[Path]) -> Faces:
    return centre(load_crops(files)).permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def result(identity_bundle: Path, will: list[Path]) -> Result:
    swapper = Swapper.open(identity_bundle, "cpu", threads=1)
    sources, unseen = pictures(will[:200:25]), pictures(will[10:240:40])
    others = [pictures(will[number : number + 2]) for number in (300, 350, 400)]
    return evaluate(swapper, Sets(sources, {"echo": unseen, "negative": unseen[:4]}, others), ColourJudge())


def test_an_echo_is_perfect_but_for_the_identity(result: Result) -> None:
    echo = result[0]["identities"]["echo"]
    assert echo["face_found"] > 0.8
    assert echo["top1"] == 0, "the nearest face is the source itself"
    assert echo["leak"] > 0
    assert echo["landmark_error"] == 0
    assert echo["light"] == pytest.approx(1)
    assert echo["ssim"] == pytest.approx(1, abs=1e-3)
    assert echo["psnr"] > 100


def test_a_copy_of_the_source_is_measured_the_same_way(result: Result) -> None:
    echo = result[0]["identities"]["echo"]
    assert echo["copy_of_source"] == {key: echo[key] for key in echo["copy_of_source"]}


def test_a_negative_is_bad_where_it_should_be(result: Result) -> None:
    row = result[0]["identities"]["negative"]
    assert row["light"] < -0.9
    assert row["ssim"] < 0.3 and row["psnr"] < 15


def test_a_real_photo_of_the_target_leaks_nothing(result: Result) -> None:
    """By definition: it is the end of the scale."""
    for row in result[0]["identities"].values():
        assert abs(row["real_photo"]["leak"]) < abs(result[0]["identities"]["echo"]["leak"])
        assert row["real_photo"]["d_target"] < row["d_target"] or row["top1"] == 0


def test_the_sizes_are_told(result: Result) -> None:
    assert result[0]["judge"] == ColourJudge.name
    assert result[0]["sources"] == 8
    assert result[0]["gallery"] == 2 + 3 + 8
    assert result[0]["unseen"] == {"echo": 6, "negative": 4}


def test_the_figures_name_the_decoder_that_they_were_measured_on(
    result: Result, identity_bundle: Path
) -> None:
    expected = Bundle.open(identity_bundle).identity("echo").decoder.sha256
    assert result[0]["identities"]["echo"]["decoder_sha256"] == expected


def test_the_sheet_shows_sources_and_each_identity(result: Result) -> None:
    sources, echo, negative = result[1]
    assert torch.equal(echo, sources)
    assert torch.equal(negative, 255 - sources)


def test_where_no_face_is_found_nothing_is_measured(identity_bundle: Path) -> None:
    """None and not NaN: the figures go into JSON files and a strict manifest."""
    grey = np.random.default_rng(0).integers(100, 110, (4, 64, 64, 3), dtype=np.uint8)
    swapper = Swapper.open(identity_bundle, "cpu", threads=1)
    figures, _ = evaluate(swapper, Sets(grey, {"echo": grey}, [grey[:1]]), ColourJudge())
    row = figures["identities"]["echo"]
    assert (row["face_found"], row["landmark_error"]) == (0, None)
    json.dumps(figures, allow_nan=False)
    assert "| echo | 0.00 |" in table(figures) and " - |" in table(figures)


def test_the_table_is_markdown(result: Result) -> None:
    lines = table(result[0]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    names = [line.split("|")[1].strip() for line in lines[2:]]
    assert names == [
        "echo",
        "echo: a real photo",
        "negative",
        "negative: a real photo",
        "a copy of the source",
    ]
    assert not any(math.isnan(float(cell)) for cell in lines[2].split("|")[2:-1])


# ---------------------------------------------------------------- the command
def refusal(capsys: pytest.CaptureFixture[str], *options: str | Path) -> str:
    assert main([str(option) for option in options]) == 2
    line = capsys.readouterr().err
    assert line.startswith("models.evaluate: ") and line.count("\n") == 1, line
    return line


def test_no_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, tmp_path / "gone", "--people", tmp_path, "--sources", tmp_path)
    assert "there is no bundle folder" in line


def test_too_few_people_are_one_line(
    tmp_path: Path, identity_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, identity_bundle, "--people", tmp_path, "--sources", tmp_path)
    assert "only 0 held-out sources and 0 others" in line


def test_an_identity_without_unseen_photos_is_one_line(
    tmp_path: Path, identity_bundle: Path, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them were seen: --skip is too large."""
    strangers = [name for name in (f"Stranger_{n}" for n in range(2000)) if held_out(name)][:102]
    for name in strangers:
        (tmp_path / "lfw" / name).mkdir(parents=True)
        (tmp_path / "lfw" / name / "1.jpg").write_text("no picture")
    for name in ("echo", "negative"):
        (tmp_path / "people" / name).mkdir(parents=True)
        (tmp_path / "people" / name / "1.jpg").write_bytes((examples / "a.jpg").read_bytes())
    options = ("--people", tmp_path / "people", "--sources", tmp_path / "lfw", "--count", "2")
    line = refusal(capsys, identity_bundle, *options)
    assert "echo, negative: no photos with a face are left after the first 449" in line
