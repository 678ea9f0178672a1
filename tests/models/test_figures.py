"""The paper's figures from tiny runs: what is drawn, what is missing, and the numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image as PillowImage

from models import figures, paper_training

pytest.importorskip("matplotlib")
from models.figure_pages import tiles
from models.figure_sources import find_sources


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, will: list[Path]) -> Path:
    """main: all five decoders; batch: another batch; cropped: as it says. One or two steps each."""
    root = tmp_path_factory.mktemp("paper")
    photos = root / "photos"
    photos.mkdir()
    for file in will[::100][:4]:
        shutil.copy(file, photos)
    for name, more in {
        "main": ["--uncropped", "--batch", "4"],
        "batch": ["--uncropped", "--batch", "2", "--decoders", "subpixel"],
        "cropped": ["--batch", "4", "--decoders", "subpixel"],
    }.items():
        options = ["--photos", str(photos), "--out", str(root / name), "--updates", "8", "--device", "cpu"]
        assert paper_training.main([*options, *more]) == 0
    return root


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, will: list[Path]) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "anna").mkdir()
    shutil.copy(will[5], folder / "anna" / "x.jpg")
    for number, file in enumerate(will[10:13]):
        shutil.copy(file, folder / f"{20 + number}_1_1_2017.jpg")
    return folder


def test_all_figures_are_drawn_and_the_numbers_written(runs: Path, sources: Path, tmp_path: Path) -> None:
    folders = [str(runs / name) for name in ("main", "batch", "cropped")]
    more = [
        "--sources",
        str(sources),
        "--out",
        str(tmp_path / "figures"),
        "--numbers",
        str(tmp_path / "n.json"),
    ]
    assert figures.main([*folders, *more]) == 0
    written = {path.name for path in (tmp_path / "figures").iterdir()}
    names = ("figure-6", "figure-7", "losses", "shallow", "batches", "cropping")
    assert written == {f"paper-{name}.png" for name in names}
    for path in (tmp_path / "figures").iterdir():
        with PillowImage.open(path) as picture:
            assert min(picture.size) > 300
    found = json.loads((tmp_path / "n.json").read_text())
    assert set(found["main"]["decoders"]) == {"shallow", "mirror", "subpixel", "strided", "dense"}
    assert found["main"]["decoders"]["shallow"]["updates"] == 8
    assert 0 < found["cropped"]["decoders"]["subpixel"]["training photos"]["loss"] < 1
    assert found["batch"]["config"]["batch"] == 2


def test_one_run_alone_gives_what_it_can(runs: Path, sources: Path, tmp_path: Path) -> None:
    assert figures.main([str(runs / "batch"), "--sources", str(sources), "--out", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "paper-figure-6.png", "paper-figure-7.png", "paper-losses.png",
    ]  # fmt: skip


def test_groups_are_those_of_names_or_folders(sources: Path) -> None:
    groups = find_sources([sources], per_group=2)
    assert {name: len(photos) for name, photos in groups.items()} == {"anna": 1, "black female": 2}


def test_mistakes_end_in_one_line(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert figures.main([str(tmp_path), "--sources", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "no encoder.pt" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    options = [str(runs / "main"), "--sources", str(tmp_path / "empty"), "--out", str(tmp_path / "o")]
    assert figures.main(options) == 2
    assert "no pictures" in capsys.readouterr().err


def test_tiles_lie_in_rows_with_lines_between() -> None:
    row = torch.stack([torch.full((3, 64, 64), float(value)) for value in (0, 100)])
    picture = tiles([row, row])
    assert picture.shape == (130, 130, 3)
    assert picture[10, 10, 0] == 0
    assert picture[10, 64, 0] == 255
    assert picture[100, 100, 0] == 100
