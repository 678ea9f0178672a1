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
from faceswap.detection import LibFaceDetection
from models import evaluate as command
from models.dataset import centre, held_out, load_crops
from models.embeddings import Embedder
from models.evaluate import main
from models.evaluation import Instruments, Ruler, Sets, Targets, evaluate, evaluate_peer, mean_row
from models.metrics import Faces
from models.renderers import BundleRenderer, Renderer
from models.report import table
from tests.models.fakes import ColourJudge

Result = tuple[dict[str, Any], list[Tensor]]


def ruler_of(sets: Sets) -> Ruler:
    embedder = Embedder(ColourJudge, processes=1)
    return Ruler.of(Instruments(embedder, LibFaceDetection()), sets.sources, Targets.of(sets, embedder))


def renderer_of(bundle: Path) -> Renderer:
    return BundleRenderer(Swapper.open(bundle, "cpu", threads=1))


def pictures(files: list[Path]) -> Faces:
    return centre(load_crops(files)).permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def sets(will: list[Path]) -> Sets:
    sources, unseen = pictures(will[:200:25]), pictures(will[10:240:40])
    others = [pictures(will[number : number + 2]) for number in (300, 350, 400)]
    return Sets(sources, {"echo": unseen, "negative": unseen[:4]}, others)


@pytest.fixture(scope="module")
def result(identity_bundle: Path, sets: Sets) -> Result:
    return evaluate(renderer_of(identity_bundle), sets, ruler_of(sets))


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
    sets = Sets(grey, {"echo": grey}, [grey[:1]])
    figures, _ = evaluate(renderer_of(identity_bundle), sets, ruler_of(sets))
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


def test_the_peer_is_measured_alike(result: Result, identity_bundle: Path, sets: Sets) -> None:
    figures, columns = evaluate_peer(renderer_of(identity_bundle), sets, ruler_of(sets))
    for name, row in figures["identities"].items():
        assert row == {key: result[0]["identities"][name][key] for key in row}
    assert figures["mean"] == result[0]["mean"]
    assert len(columns) == 3


def test_a_mean_leaves_out_what_was_not_measured() -> None:
    rows: list[dict[str, Any]] = [{"a": 1.0, "b": None, "text": "x"}, {"a": 2.0, "b": 0.5, "text": "y"}]
    assert mean_row(rows) == {"a": 1.5, "b": 0.5}
    assert mean_row([{"a": None}]) == {"a": None}


def test_figures_of_some_sources_only(sets: Sets) -> None:
    """All of them chosen gives the figures of all; a copy of the source stays one in every part."""
    ruler = ruler_of(sets)
    everything = ruler.measure(ruler.sources, "echo")
    assert ruler.measure(ruler.sources, "echo", np.arange(8)) == everything
    part = ruler.measure(ruler.sources, "echo", np.array([1, 4, 6]))
    assert (part["landmark_error"], part["light"], part["top1"]) == (0, 1, 0)
    assert part["leak"] != everything["leak"]
    assert ruler.measure(ruler.sources, "echo", np.array([1]))["light"] is None, (
        "one point has no correlation"
    )


# ---------------------------------------------------------------- the command
@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, will: list[Path], identity_bundle: Path) -> Path:
    """A folder of photos: 102 strangers that training leaves out, the identities, eight of known groups."""
    root = tmp_path_factory.mktemp("world")
    strangers = [name for name in (f"Stranger_{n}" for n in range(2000)) if held_out(name)][:104]
    for number, name in enumerate(strangers):
        copy(will[number * 4], root / "lfw" / name / "1.jpg")
    for name in Swapper.open(identity_bundle, "cpu", threads=1).identities:
        for number in range(3):
            copy(will[number * 9 + 2], root / "people" / name / f"{number}.jpg")
    for number in range(8):
        copy(will[number * 50], root / "groups" / f"3{number}_{number % 2}_{number // 4}_x.jpg")
    return root


def copy(photo: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(photo.read_bytes())


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's judge without dlib."""
    monkeypatch.setattr(command, "DlibJudge", ColourJudge)


@pytest.mark.usefixtures("colours")
def test_the_command_writes_figures_tables_chart_and_sheet(
    world: Path, identity_bundle: Path, tmp_path: Path
) -> None:
    options = ["--people", world / "people", "--skip", "0", "--sources", world / "lfw", "--count", "4"]
    options += ["--others", "20", "--groups", world / "groups", "--group-count", "2", "--bright-dark"]
    options += ["--gates", "--real-person", "echo", "--peer", identity_bundle, "--processes", "1"]
    options += ["--cache", tmp_path / "cache.npz", "--out", tmp_path / "out" / "m.json"]
    assert main([str(option) for option in [identity_bundle, *options]]) == 0
    result = json.loads((tmp_path / "out" / "m.json").read_text())
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "m.json", "m.md", "m.png", "m-peer.png", "m-chart.png"
    }  # fmt: skip
    assert result["sources"] == 4 and result["first_source"] == 0
    assert set(result["groups"]["sources"]) == {
        "male", "female", "white", "black", "white male", "white female", "black male", "black female"
    }  # fmt: skip
    assert result["exposure"]["sources"] == {"darkest": 4, "brightest": 4}
    assert result["cost"]["bytes"] > 0
    assert result["precision"] == "fp32", "this bundle has nothing else"
    verdicts = {gate["name"]: gate["passed"] for gate in result["gates"]}
    assert verdicts["echo: ssim"] is True and verdicts["echo: top1"] is False
    assert verdicts["echo: light beside the peer"] is True, "a tie where nothing can be better"
    assert verdicts["bundle, MB"] is True
    assert "## Gates" in (tmp_path / "out" / "m.md").read_text()
    assert (tmp_path / "cache.npz").exists()


@pytest.mark.usefixtures("colours")
def test_an_identity_that_is_not_there_is_one_line(
    world: Path, identity_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--people", world / "people", "--sources", world / "lfw", "--identities", "nobody")
    assert "has no nobody" in refusal(capsys, identity_bundle, *options)


def test_graphs_that_a_bundle_has_not_are_one_line(
    world: Path, identity_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--people", world / "people", "--sources", world / "lfw", "--precision", "int8")
    assert "int8" in refusal(capsys, identity_bundle, *options)


def refusal(capsys: pytest.CaptureFixture[str], *options: str | Path) -> str:
    assert main([str(option) for option in options]) == 2
    line = capsys.readouterr().err
    assert line.startswith("models.evaluate: ") and line.count("\n") == 1, line
    return line


def test_no_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, tmp_path / "gone", "--people", tmp_path, "--sources", tmp_path)
    assert "there is no bundle folder" in line


@pytest.mark.usefixtures("colours")
def test_too_few_people_are_one_line(
    tmp_path: Path, identity_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, identity_bundle, "--people", tmp_path, "--sources", tmp_path)
    assert "only 0 held-out sources and 0 others" in line


@pytest.mark.usefixtures("colours")
def test_an_identity_without_unseen_photos_is_one_line(
    world: Path, identity_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them were seen: --skip is too large."""
    options = ("--people", world / "people", "--sources", world / "lfw", "--count", "2", "--others", "2")
    line = refusal(capsys, identity_bundle, *options, "--identities", "echo", "negative")
    assert "echo, negative: no photos with a face are left after the first 449" in line
