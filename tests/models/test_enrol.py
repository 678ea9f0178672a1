"""One more person on a frozen encoder: what stays, what is learnt, and every mistake in one line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from models import train
from models.augment import AugmentConfig
from models.checkpoint import UNIVERSAL, Checkpoint
from models.enrol import ENROL, Enrolment, crop, enrol, load_base, preview_sources, schedule
from models.errors import CheckpointError, DataError, TrainingError
from models.stored import weights_sha256
from models.trainer import TrainConfig
from tests.models.conftest import MakePeople
from tests.models.fakes import quick_checkpoint, small_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = replace(ENROL, updates=64, batch=8, learning_rate=3e-3, warmup_steps=5, seed=1)
MakeJob = Callable[..., Enrolment]


@pytest.fixture
def base() -> Checkpoint:
    return quick_checkpoint("yuna")


@pytest.fixture
def ann(tmp_path: Path, make_people: MakePeople) -> Path:
    """Eight crops and a consent record."""
    return make_people(tmp_path / "people", "ann") / "ann"


@pytest.fixture
def job(ann: Path, tmp_path: Path) -> MakeJob:
    def make(**changes: Any) -> Enrolment:
        return replace(Enrolment("ann", ann, tmp_path / "out", QUICK), **changes)

    return make


def no_crop(photos: Path, out: Path) -> None:
    raise AssertionError(f"{photos} are crops already, {out}")


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------- what comes of it
def test_the_encoder_stays_the_very_same(base: Checkpoint, job: MakeJob) -> None:
    """So that everybody else's decoders stay valid, and export adds the person to a bundle."""
    before, universal = weights_sha256(base.encoder), weights_sha256(base.decoders[UNIVERSAL])
    made = Checkpoint.load(enrol(base, job(), no_crop))
    assert weights_sha256(made.encoder) == before
    assert weights_sha256(made.decoders[UNIVERSAL]) == universal
    assert (weights_sha256(base.encoder), weights_sha256(base.decoders[UNIVERSAL])) == (before, universal)
    assert sorted(made.decoders) == ["ann", UNIVERSAL], "nobody of the base is carried along"
    assert weights_sha256(made.decoders["ann"]) != universal


def test_the_person_comes_with_facts_consent_and_a_preview(base: Checkpoint, job: MakeJob) -> None:
    made = Checkpoint.load(enrol(base, job(), no_crop))
    assert made.records["ann"]["consent"]["kind"] == "synthetic"
    assert made.previews["ann"].shape == (3, 64, 64)
    facts = made.facts
    assert (facts["preset"], facts["crops"], facts["updates"]) == ("enrol", {"ann": 8}, 64)
    assert facts["from"]["updates"] == 9, "and with what the base had been through"
    assert facts["config"]["frozen"]
    ann = made.decoders["ann"]
    assert (ann.low > -10).all() and (ann.high < 10).all(), "seen in their own light only"


def test_the_person_starts_as_everybody(base: Checkpoint, job: MakeJob) -> None:
    made = Checkpoint.load(enrol(base, job(config=replace(QUICK, updates=8)), no_crop))
    ann, universal = made.decoders["ann"].state_dict(), base.decoders[UNIVERSAL].state_dict()
    trained = [name for name in ann if name not in {"low", "high"}]
    assert max((ann[name] - universal[name]).abs().max().item() for name in trained) < 1e-2


def test_a_sheet_of_previews_shows_the_others_too(base: Checkpoint, job: MakeJob, tmp_path: Path) -> None:
    enrol(base, job(), no_crop, preview_sources(base, None))
    (sheet,) = (tmp_path / "out" / "previews").iterdir()
    with PillowImage.open(sheet) as picture:
        assert picture.size == (2 * 64, 7 * 64), "six of ann's, one of yuna's; source and ann"


def test_photos_are_cropped_first(base: Checkpoint, job: MakeJob, ann: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    PillowImage.new("RGB", (300, 200)).save(photos / "1.jpg")
    (photos / "identity.json").write_text('{"licence": "mine"}')
    asked = []

    def fake_crop(source: Path, out: Path) -> None:
        asked.append(source)
        shutil.copytree(ann, out)

    made = Checkpoint.load(enrol(base, job(photos=photos), fake_crop))
    assert asked == [photos]
    assert made.facts["crops"] == {"ann": 8}
    assert made.records["ann"] == {"licence": "mine"}, "the record lies beside the photos"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "checkpoint.pt", "crops", "log.jsonl", "previews",
    ]  # fmt: skip


def test_faces_of_an_earlier_run_do_not_stay_between_the_new_ones(
    base: Checkpoint, job: MakeJob, will: list[Path], tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    PillowImage.new("RGB", (300, 200)).save(photos / "1.jpg")
    calls: list[Path] = []

    def fake_crop(_: Path, out: Path) -> None:
        calls.append(out)
        out.mkdir(parents=True)
        (out / "crop-report.json").write_text("{}")
        for file in will[len(calls) :: 90]:
            shutil.copy(file, out)

    enrol(base, job(photos=photos), fake_crop)
    enrol(base, job(photos=photos, overwrite=True), fake_crop)
    assert len(calls) == 2
    left = {path.name for path in (tmp_path / "out" / "crops").glob("*.jpg")}
    assert left == {path.name for path in will[2::90]}
    assert len(rows_of(tmp_path / "out")) == 1, "and the log is that of the second run"


def test_a_real_photo_is_found_cropped_and_learnt(
    base: Checkpoint, job: MakeJob, examples: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(examples / "a.jpg", photos)
    made = Checkpoint.load(enrol(base, job(photos=photos, config=replace(QUICK, updates=8)), crop))
    assert made.facts["crops"] == {"ann": 1}


# ---------------------------------------------------------------- going on
def test_a_stopped_enrolment_goes_on_to_the_very_same_weights(
    base: Checkpoint, job: MakeJob, tmp_path: Path
) -> None:
    plain = replace(QUICK, sharp_share=0.0, final_rate=1.0)  # the same schedule for any budget
    whole = Checkpoint.load(enrol(base, job(config=plain), no_crop))
    enrol(base, job(out=tmp_path / "b", config=replace(plain, updates=24)), no_crop)
    again = Checkpoint.load(
        enrol(quick_checkpoint("yuna"), job(out=tmp_path / "b", config=plain, resume=True), no_crop)
    )
    assert again.facts["step"] == whole.facts["step"] == 8
    assert weights_sha256(again.decoders["ann"]) == weights_sha256(whole.decoders["ann"])
    assert [row["step"] for row in rows_of(tmp_path / "b")] == [3, 8]


def test_going_on_crops_nothing_again(base: Checkpoint, job: MakeJob, ann: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    PillowImage.new("RGB", (300, 200)).save(photos / "1.jpg")

    def fake_crop(_: Path, out: Path) -> None:
        shutil.copytree(ann, out)

    enrol(base, job(photos=photos), fake_crop)
    enrol(base, job(photos=photos, resume=True, config=replace(QUICK, updates=80)), no_crop)
    assert Checkpoint.load(tmp_path / "out").facts["updates"] == 80


def test_the_schedule_is_the_runs_own_but_for_a_budget(base: Checkpoint, job: MakeJob) -> None:
    nothing = replace(ENROL, batch=64)
    assert schedule(job(config=nothing), None).minutes == 10, "the default of a new run"
    assert schedule(job(), None) == QUICK
    old = Checkpoint.load(enrol(base, job(), no_crop))
    assert schedule(job(config=nothing), old) == QUICK
    assert schedule(job(config=replace(nothing, minutes=3.0)), old) == replace(
        QUICK, updates=None, minutes=3.0
    )
    assert TrainConfig.of(old.facts["config"]).augment == AugmentConfig()


# ---------------------------------------------------------------- mistakes
def refusal(error: type[TrainingError], base: Checkpoint, enrolment: Enrolment) -> str:
    with pytest.raises(error) as caught:
        enrol(base, enrolment, crop)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_name_that_is_taken(base: Checkpoint, job: MakeJob) -> None:
    assert "yuna is in --from already" in refusal(DataError, base, job(name="yuna"))


@pytest.mark.parametrize("name", ["Ann Lee", "", UNIVERSAL])
def test_a_name_that_is_none(base: Checkpoint, job: MakeJob, name: str) -> None:
    refusal(DataError, base, job(name=name))


def test_a_base_without_the_decoder_of_everybody(base: Checkpoint, job: MakeJob) -> None:
    del base.decoders[UNIVERSAL]
    assert "no universal decoder" in refusal(CheckpointError, base, job())


def test_photos_that_are_not_there(base: Checkpoint, job: MakeJob, tmp_path: Path) -> None:
    assert refusal(DataError, base, job(photos=tmp_path / "gone")) == f"{tmp_path / 'gone'} does not exist"
    (tmp_path / "empty").mkdir()
    assert "no pictures" in refusal(DataError, base, job(photos=tmp_path / "empty"))
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_photos_without_a_face(base: Checkpoint, job: MakeJob, examples: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(examples / "no-face.jpg", photos)
    assert refusal(DataError, base, job(photos=photos)) == f"no face was found in {photos}"


def test_a_crop_of_another_size_between_the_others(base: Checkpoint, job: MakeJob, ann: Path) -> None:
    PillowImage.new("RGB", (64, 64)).save(ann / "zzz.png")
    assert "zzz.png is 64x64" in refusal(DataError, base, job())


def test_photos_where_their_crops_would_go(base: Checkpoint, job: MakeJob, tmp_path: Path) -> None:
    photos = tmp_path / "out" / "crops"
    photos.mkdir(parents=True)
    PillowImage.fromarray(np.zeros((90, 90, 3), np.uint8)).save(photos / "1.png")
    refusal(DataError, base, job(photos=photos))
    (photos / "crop-report.json").write_text("{}")
    refusal(DataError, base, job(photos=photos))
    assert (photos / "1.png").exists(), "nobody's photos are deleted"


def test_a_run_that_is_there(base: Checkpoint, job: MakeJob) -> None:
    enrol(base, job(), no_crop)
    assert "--resume it" in refusal(CheckpointError, base, job())


def test_going_on_with_nothing(base: Checkpoint, job: MakeJob) -> None:
    assert "no checkpoint at" in refusal(CheckpointError, base, job(resume=True))


def test_going_on_with_another_ones_run(base: Checkpoint, job: MakeJob) -> None:
    enrol(base, job(), no_crop)
    line = refusal(CheckpointError, base, job(name="bob", resume=True))
    assert line.endswith("holds a run of ['ann'], not of bob")


def test_going_on_with_another_encoder(base: Checkpoint, job: MakeJob) -> None:
    enrol(base, job(), no_crop)
    line = refusal(CheckpointError, quick_checkpoint("yuna", seed=5), job(resume=True))
    assert "another encoder" in line


def test_a_base_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_base(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError):
        load_base(tmp_path)


# ---------------------------------------------------------------- TensorBoard, an extra
def test_tensorboard_that_is_not_installed(
    base: Checkpoint, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    line = refusal(TrainingError, base, job(tensorboard=True))
    assert line == "--tensorboard needs: pip install tensorboard"


def test_tensorboard_gets_the_rows_of_the_log(
    base: Checkpoint, job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    enrol(base, job(tensorboard=True), no_crop)
    assert board.folder == str(tmp_path / "out" / "tensorboard")
    (row,) = rows_of(tmp_path / "out")
    assert board.scalars["loss"] == [(row["loss"], 64)]
    assert board.closed


class Board(ModuleType):
    """A `torch.utils.tensorboard` that is its own writer."""

    def __init__(self) -> None:
        super().__init__("torch.utils.tensorboard")
        self.scalars: dict[str, list[tuple[float, int]]] = {}
        self.closed = False

    def SummaryWriter(self, folder: str) -> Board:  # noqa: N802, TensorBoard's name
        self.folder = folder
        return self

    def add_scalar(self, name: str, value: float, at: int) -> None:
        self.scalars.setdefault(name, []).append((value, at))

    def close(self) -> None:
        self.closed = True


# ---------------------------------------------------------------- the command
def command(capsys: pytest.CaptureFixture[str], *options: str | Path) -> str:
    assert train.main([str(option) for option in options]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("models.train: ")
    return line


def test_the_command_enrols(tmp_path: Path, ann: Path) -> None:
    small_checkpoint("yuna").save(tmp_path / "base.pt")
    options = ["--enrol", "ann", ann, "--from", tmp_path / "base.pt", "--out", tmp_path / "out"]
    options += ["--updates", "8", "--batch", "4", "--warp", "0.5", "--device", "cpu"]
    assert train.main([str(option) for option in options]) == 0
    made = Checkpoint.load(tmp_path / "out")
    assert made.facts["config"]["augment"]["warp"] == 0.5
    assert made.facts["config"]["minutes"] is None


def test_the_command_says_what_is_missing(
    tmp_path: Path, ann: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--enrol needs --from" in command(capsys, "--enrol", "ann", ann)
    gone = tmp_path / "gone"
    assert "no checkpoint at" in command(capsys, "--enrol", "ann", ann, "--from", gone)
    assert "--all needs --from" in command(capsys, "--all", ann)
    line = command(capsys, "--all", gone, "--from", gone, "--out", tmp_path)
    assert "should hold one folder of photos" in line
