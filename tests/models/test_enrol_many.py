"""Many people, one after another or on Ray: one's trouble is nobody else's, a second start goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from models import train
from models.checkpoint import UNIVERSAL, Checkpoint
from models.enrol import ENROL, Enrolment
from models.enrol_many import enrol_many, enrol_one
from models.enrolled import REPORT, Enrolled, collect
from models.errors import TrainingError
from models.stored import weights_sha256
from tests.models.conftest import MakePeople
from tests.models.fakes import small_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]
QUICK = replace(ENROL, updates=8, batch=4, pool_steps=1)
MakeJobs = Callable[..., list[Enrolment]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "checkpoint.pt"
    small_checkpoint("yuna").save(path)
    return path


@pytest.fixture
def make_jobs(tmp_path: Path, make_people: MakePeople) -> MakeJobs:
    def make(*names: str, **changes: Any) -> list[Enrolment]:
        people = make_people(
            tmp_path / "people", *[n for n in names if not (tmp_path / "people" / n).exists()]
        )
        return [replace(Enrolment(n, people / n, tmp_path / "out" / n, QUICK), **changes) for n in names]

    return make


def report(tmp_path: Path) -> dict[str, Any]:
    rows: dict[str, Any] = json.loads((tmp_path / "out" / REPORT).read_text())
    return rows


def written(out: Path) -> int:
    return (out / "checkpoint.pt").stat().st_mtime_ns


# ---------------------------------------------------------------- one after another
def test_everybody_gets_a_checkpoint_and_a_row(base: Path, make_jobs: MakeJobs, tmp_path: Path) -> None:
    enrol_many(base, make_jobs("ann", "bob"))
    encoder = weights_sha256(Checkpoint.load(base).encoder)
    for name in ("ann", "bob"):
        made = Checkpoint.load(tmp_path / "out" / name)
        assert sorted(made.decoders) == sorted([name, UNIVERSAL])
        assert weights_sha256(made.encoder) == encoder, "one person's run leaves no trace in the next"
        row = report(tmp_path)[name]
        assert (row["name"], row["crops"], row["updates"], row["error"]) == (name, 8, 8, None)
        assert row["loss"] > 0 and row["seconds"] > 0
    assert not list((tmp_path / "out").glob("*.partial"))


def test_bad_photos_stop_nobody_else(
    base: Path, make_jobs: MakeJobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = make_jobs("ann", "bob", "cyd")
    for file in (tmp_path / "people" / "ann").glob("*.jpg"):
        file.unlink()
    jobs[1] = replace(jobs[1], name="Bob Example")
    with pytest.raises(
        TrainingError, match=r"2 of 3 failed, .*enrolled.json says why: Bob Example, ann"
    ) as caught:
        enrol_many(base, jobs)
    assert "\n" not in str(caught.value)
    rows = report(tmp_path)
    assert "no pictures" in rows["ann"]["error"]
    assert "lower-case letters" in rows["Bob Example"]["error"]
    assert rows["cyd"]["error"] is None
    assert "3/3" in capsys.readouterr().out, "one bar over all people"


def test_a_run_that_diverges_is_a_row_as_well(base: Path, make_jobs: MakeJobs, tmp_path: Path) -> None:
    jobs = make_jobs("ann", "bob")
    jobs[0] = replace(jobs[0], config=replace(QUICK, updates=800, learning_rate=1e30, warmup_steps=1))
    with pytest.raises(TrainingError, match="1 of 2 failed"):
        enrol_many(base, jobs)
    assert "--learning-rate" in report(tmp_path)["ann"]["error"]
    assert report(tmp_path)["bob"]["error"] is None


def test_a_defect_is_a_row_as_well(base: Path, make_jobs: MakeJobs) -> None:
    (job,) = make_jobs("ann", device="nonsense")
    row = enrol_one(Checkpoint.load(base), job)
    assert row.error is not None and row.error.startswith("RuntimeError: ") and "\n" not in row.error


def test_a_second_start_skips_who_is_finished_and_resumes_the_others(
    base: Path, make_jobs: MakeJobs, tmp_path: Path
) -> None:
    enrol_many(base, make_jobs("ann", "bob"))
    before = written(tmp_path / "out" / "ann")
    jobs = make_jobs("ann", "bob", "cyd")
    jobs[1] = replace(jobs[1], config=replace(QUICK, updates=16))  # not finished, by this budget
    enrol_many(base, jobs)
    assert written(tmp_path / "out" / "ann") == before
    rows = report(tmp_path)
    assert [rows[name]["updates"] for name in ("ann", "bob", "cyd")] == [8, 16, 8]
    log = (tmp_path / "out" / "bob" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [2, 4], "resumed, not begun anew"


def test_a_finished_run_of_another_encoder_is_not_taken_for_this_one(
    base: Path, make_jobs: MakeJobs, tmp_path: Path
) -> None:
    enrol_many(base, make_jobs("ann"))
    small_checkpoint("yuna", seed=3).save(tmp_path / "other.pt")
    with pytest.raises(TrainingError, match="1 of 1 failed"):
        enrol_many(tmp_path / "other.pt", make_jobs("ann"))
    assert "another encoder" in report(tmp_path)["ann"]["error"]
    enrol_many(tmp_path / "other.pt", make_jobs("ann", overwrite=True))
    assert report(tmp_path)["ann"]["error"] is None


def test_a_base_that_cannot_be_used_is_said_before_anything_is_touched(
    make_jobs: MakeJobs, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="no checkpoint at"):
        enrol_many(tmp_path / "gone", make_jobs("ann", overwrite=True))
    assert not (tmp_path / "out").exists()


def test_the_report_is_there_after_each_person(make_jobs: MakeJobs, tmp_path: Path) -> None:
    jobs = make_jobs("ann", "bob")

    def one_by_one() -> Iterator[Enrolled]:
        yield Enrolled("ann", 8, 10, 1.0, 0.5)
        assert list(report(tmp_path)) == ["ann"]
        yield Enrolled("bob", error="no pictures")
        assert list(report(tmp_path)) == ["ann", "bob"]

    with pytest.raises(TrainingError, match=r"1 of 2 failed, .* says why: bob"):
        collect(one_by_one(), jobs)
    collect([Enrolled("bob", 8, 10, 1.0, 0.4)], jobs[1:])
    assert report(tmp_path)["ann"]["loss"] == 0.5, "rows of an earlier start stay"
    assert report(tmp_path)["bob"]["error"] is None


def test_a_damaged_report_is_begun_anew(make_jobs: MakeJobs, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for content in ("{", "[]", ""):
        (tmp_path / "out" / REPORT).write_text(content)
        collect([Enrolled("ann", 8, 10, 1.0, 0.4)], make_jobs("ann"))
        assert list(report(tmp_path)) == ["ann"]


def test_the_command_enrols_a_folder(
    base: Path, make_jobs: MakeJobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_jobs("ann", "bob")
    (tmp_path / "people" / "bob" / "identity.json").write_text("[]")
    options = ["--all", tmp_path / "people", "--from", base, "--out", tmp_path / "out", "--device", "cpu"]
    options += ["--updates", "8", "--batch", "4"]
    assert train.main([str(option) for option in options]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("models.train: 1 of 2 failed")
    assert Checkpoint.load(tmp_path / "out" / "ann").identities == ["ann"]


# ---------------------------------------------------------------- on Ray
def test_ray_is_an_extra_and_its_absence_one_line(
    base: Path, make_jobs: MakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TrainingError, match=r"pip install 'faceswapd\[ray\]'"):
        enrol_many(base, make_jobs("ann", overwrite=True), ray=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("ray"), reason="Ray is in the extra `ray`")
def test_on_ray_a_killed_task_resumes_and_a_hopeless_one_stops_nobody(
    base: Path, make_jobs: MakeJobs, tmp_path: Path
) -> None:
    """In a process of its own: Ray leaves threads and processes behind that no other test should meet."""
    make_jobs("ann", "bob", "cyd")
    for file in (tmp_path / "people" / "bob").glob("*.jpg"):
        file.unlink()
    command = [sys.executable, "-m", "tests.models.ray_driver", base, tmp_path]
    environment = os.environ | {"RAY_raylet_start_wait_time_s": "300"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    rows = report(tmp_path)
    assert (rows["ann"]["updates"], rows["ann"]["error"]) == (8, None)
    log = (tmp_path / "out" / "ann" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2], "killed after a step, and resumed"
    assert (tmp_path / "ann.tries").read_text() == (tmp_path / "cyd.tries").read_text() == "xx"
    assert "no pictures" in rows["bob"]["error"]
    assert "Error" in rows["cyd"]["error"] and "\n" not in rows["cyd"]["error"]
    assert "2 of 3 failed" in done.stdout
    threads = {int(line) for line in (tmp_path / "threads").read_text().split()}
    assert threads == {2}, "as many as the CPUs that the task was given"
