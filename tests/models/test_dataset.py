"""Crops from folders: who is in them, who is held out, and every mistake in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

from models.dataset import (
    centre,
    check_name,
    held_out,
    load_crops,
    load_general,
    load_people,
    load_person,
    most_frontal,
    person_of,
    read_record,
)
from models.errors import DataError


def write(path: Path, grey: int = 128, side: int = 80, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.new("L", (side, side), grey).convert(mode).save(path)
    return path


def test_a_tenth_of_all_people_is_held_out() -> None:
    share = np.mean([held_out(f"Person_{number}") for number in range(20_000)])
    assert 0.093 < share < 0.107  # three standard deviations


@pytest.mark.parametrize(
    ("name", "out"),
    [("AJ_Cook", False), ("Aaron_Eckhart", False), ("Aaron_Sorkin", True), ("Al_Sharpton", True)],
)
def test_who_is_held_out_never_changes(name: str, out: bool) -> None:
    """Else what an old checkpoint was trained on would be measured as unseen."""
    assert held_out(name) is out


def test_a_general_set_is_read_without_the_held_out(tmp_path: Path) -> None:
    names = ["AJ_Cook", "Aaron_Sorkin", *(f"Person_{number}" for number in range(10)), "Al_Sharpton"]
    for number, name in enumerate(names):
        write(tmp_path / "set" / name / "1.png", grey=number * 8)
    crops = load_general([tmp_path / "set"])
    expected = [number * 8 for number, name in enumerate(names) if not held_out(name)]
    assert 1 <= len(expected) <= len(names) - 2
    assert sorted(crops[:, 0, 0, 0].tolist()) == expected


def test_a_person_of_a_general_set_is_the_folder_or_the_stem(tmp_path: Path) -> None:
    assert person_of(tmp_path / "Ann_Lee" / "Ann_Lee_0001.jpg", tmp_path) == "Ann_Lee"
    assert person_of(tmp_path / "0001.jpg", tmp_path) == "0001"


def test_people_are_the_subfolders(tmp_path: Path) -> None:
    write(tmp_path / "will" / "b.png", 20)
    write(tmp_path / "will" / "deeper" / "c.png", 30)
    write(tmp_path / "will" / "a.png", 10)
    write(tmp_path / "amara" / "1.png")
    (tmp_path / "will" / "identity.json").write_text('{"licence": "CC0-1.0"}')
    (tmp_path / "notes.txt").write_text("nobody")
    amara, will = load_people(tmp_path)
    assert (amara.name, will.name) == ("amara", "will")
    assert will.crops.dtype == torch.uint8
    assert will.crops[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert (will.record, amara.record) == ({"licence": "CC0-1.0"}, {})


def test_colours_are_read_as_rgb(tmp_path: Path) -> None:
    PillowImage.new("RGB", (80, 80), (250, 120, 10)).save(tmp_path / "1.png")
    write(tmp_path / "2.png", grey=77, mode="L")
    assert load_crops([tmp_path / "1.png", tmp_path / "2.png"])[:, :, 5, 5].tolist() == [
        [250, 120, 10],
        [77, 77, 77],
    ]


def test_the_centre_is_what_the_margin_leaves() -> None:
    crops = torch.arange(80 * 80).view(1, 1, 80, 80).expand(2, 3, 80, 80)
    inner = centre(crops)
    assert inner.shape == (2, 3, 64, 64)
    assert inner[0, 0, [0, -1], [0, -1]].tolist() == [8 * 80 + 8, 71 * 80 + 71]


def test_the_preview_is_of_a_frontal_crop(crops: Tensor) -> None:
    """One of the eight that are their own mirror images, and not of those with one half in the dark."""
    even = ((crops[:8].int() + crops[:8].flip(3)) // 2).byte()
    turned = crops.clone()
    turned[..., :40] //= 3
    chosen = most_frontal(torch.cat([turned, even]))
    assert chosen.shape == (3, 64, 64)
    assert any(torch.equal(chosen, face) for face in centre(even))
    assert torch.equal(most_frontal(crops[:1]), centre(crops)[0]), "a single crop will do"


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_people(folder)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_no_folder_and_no_people(tmp_path: Path) -> None:
    assert "is no folder" in refusal(tmp_path / "gone")
    assert "has no subfolders" in refusal(tmp_path)


def test_a_person_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "will").mkdir()
    assert "python -m models.crop" in refusal(tmp_path)


def test_pictures_that_are_no_crops(tmp_path: Path) -> None:
    path = write(tmp_path / "will" / "1.png", side=64)
    assert refusal(tmp_path).startswith(f"{path} is 64x64; training wants 80x80 crops")


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_file_that_is_no_picture(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "will" / "1.png")
    path.write_bytes(content)
    assert refusal(tmp_path) == f"{path} cannot be read as a picture"


def test_half_a_picture(tmp_path: Path, will: list[Path]) -> None:
    (tmp_path / "will").mkdir()
    (tmp_path / "will" / "1.jpg").write_bytes(will[0].read_bytes()[:1500])
    assert refusal(tmp_path).endswith("1.jpg cannot be read as a picture")


@pytest.mark.parametrize("name", ["Anna Example", "Will", ".cache", "will.old"])
def test_a_name_that_no_bundle_can_hold_is_said_before_training(tmp_path: Path, name: str) -> None:
    write(tmp_path / name / "1.png")
    assert "lower-case letters" in refusal(tmp_path)


def test_nobody_is_called_like_the_decoder_of_everybody(tmp_path: Path) -> None:
    write(tmp_path / "universal" / "1.png")
    assert "'universal' is taken" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["will", "a-b_9", "x" * 60])
def test_names_that_a_bundle_can_hold(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "Will", "../will", "x" * 200, "universal"])
def test_names_that_it_cannot(name: str) -> None:
    with pytest.raises(DataError) as caught:
        check_name(name)
    assert "\n" not in str(caught.value)


def test_a_person_may_have_no_record_yet(tmp_path: Path) -> None:
    write(tmp_path / "will" / "1.png")
    assert load_person(tmp_path / "will").record == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[]", "must hold an object"),
        (b'"CC0"', "must hold an object"),
    ],
)
def test_a_record_that_is_none(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "identity.json").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_record(tmp_path)


def test_the_example_person_has_a_valid_record_and_449_crops(examples: Path) -> None:
    person = load_person(examples / "people" / "will")
    assert person.crops.shape == (449, 3, 80, 80)
    assert person.record["consent"]["kind"] == "synthetic"
    assert person.record["licence"] == "CC0-1.0"
