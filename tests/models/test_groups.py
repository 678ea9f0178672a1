"""Groups of sources: read from file names, even in number, and the gap of the worst."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from faceswap.alignment import Template
from faceswap.detection import LibFaceDetection
from models.errors import DataError
from models.groups import Figures, GroupSources, exposures, extremes, read_groups, worst_gap
from models.photos import PhotoReader


@pytest.fixture(scope="module")
def reader() -> PhotoReader:
    return PhotoReader(LibFaceDetection(), Template())


def test_names_tell_the_group(tmp_path: Path, will: list[Path], reader: PhotoReader) -> None:
    for age in range(20, 25):
        shutil.copy(will[age], tmp_path / f"{age}_0_1_2017.jpg")
        shutil.copy(will[age + 50], tmp_path / f"{age}_1_2_2017.jpg")
    shutil.copy(will[0], tmp_path / "20_1_2017.jpg")  # no race: UTKFace has a few such names
    sources = read_groups(tmp_path, 3, reader)
    assert sources.labels.tolist() == [[0, 1]] * 3 + [[1, 2]] * 3
    members = sources.members()
    assert {kind: list(groups) for kind, groups in members.items()} == {
        "gender": ["male", "female"],
        "race": ["black", "Asian"],
        "gender and race": ["black male", "Asian female"],
    }
    assert members["race"]["Asian"].tolist() == [3, 4, 5]


def test_a_folder_without_such_names_is_refused(
    tmp_path: Path, will: list[Path], reader: PhotoReader
) -> None:
    shutil.copy(will[0], tmp_path / "face.jpg")
    with pytest.raises(DataError, match="AGE_GENDER_RACE"):
        read_groups(tmp_path, 3, reader)


def test_all_ten_groups_have_rows() -> None:
    labels = np.array([(g, r) for g in range(2) for r in range(5) for _ in range(2)])
    members = GroupSources(np.zeros((20, 64, 64, 3), np.uint8), labels).members()
    assert [len(groups) for groups in members.values()] == [2, 5, 10]
    assert len(members["gender"]["female"]) == 10 and len(members["race"]["Indian"]) == 4


def test_the_worst_gap_is_to_the_mean_of_its_kind() -> None:
    best = {"face_found": 1.0, "top1": 0.99, "light": 0.95, "leak": 0.01, "landmark_error": 0.05}
    kinds = {"gender": ["male", "female"], "race": ["white", "black", "Asian"]}
    rows = {group: dict(best) for groups in kinds.values() for group in groups}
    sizes = dict.fromkeys(rows, 100)
    none = worst_gap(rows, kinds, sizes)
    assert none is not None and none["points"] == 0
    rows["black"] |= {"top1": 0.90, "landmark_error": 0.11}
    gap = worst_gap(rows, kinds, sizes)
    assert gap is not None
    assert (gap["group"], gap["figure"], gap["points"]) == ("black", "top1", 6.0)
    assert gap["noise"] == pytest.approx(3.0)
    assert gap["figures"]["landmark_error"] == {"points": 4.0, "group": "black"}


def test_a_better_group_is_no_gap_of_its_own() -> None:
    rows = {"male": {"leak": 0.00}, "female": {"leak": 0.02}}
    gap = worst_gap(rows, {"gender": ["male", "female"]}, {"male": 5, "female": 5})
    assert gap is not None and (gap["group"], gap["points"]) == ("female", 1.0)


def test_nothing_measured_is_no_gap() -> None:
    rows: Figures = {"male": {"leak": None}, "female": {"leak": 0.1}}
    assert worst_gap(rows, {"gender": ["male", "female"]}, {"male": 5, "female": 5}) is None


def test_the_darkest_come_first() -> None:
    shades = np.random.default_rng(0).permutation(16).astype(np.uint8) * 10
    faces = np.broadcast_to(shades[:, None, None, None], (16, 64, 64, 3))
    assert exposures(faces) == pytest.approx(shades.astype(float))
    assert extremes(faces)[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 120, 130, 140, 150]
