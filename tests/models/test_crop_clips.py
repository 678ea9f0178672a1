"""The auto-crop of clips, from the file to the crops, the report and the contact sheet."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageFilter

from faceswap.alignment import Template, align
from faceswap.detection import LibFaceDetection
from models.clips import CLIP_SIDES
from models.crop import main
from models.dataset import MARGIN, load_person
from models.quality import look
from models.video import Clip
from tests.models.clip_maker import Picture, black, view, write_clip, write_sound

SHEET = "anna-contact-sheet.png"


def photo(examples: Path, name: str) -> Picture:
    with PillowImage.open(examples / name) as file:
        return file.convert("RGB")


def scenes(examples: Path) -> Iterator[Picture]:
    """a.jpg moving and zooming: 0-17 sharp, 18-20 blurred, 21-23 sharp, 24-26 black, 27-29 the last frame
    of before again; then another shot, two.jpg with two people: 30-35."""
    one, two = photo(examples, "a.jpg"), photo(examples, "two.jpg")
    for i in range(24):
        frame = view(one.rotate(1.5 * i - 15), 1 + 0.012 * i, 4 * i - 40, 0.5 * i)
        yield frame.filter(ImageFilter.GaussianBlur(7)) if 18 <= i < 21 else frame
    for _ in range(3):
        yield black()
    for _ in range(3):
        yield view(one.rotate(1.5 * 23 - 15), 1 + 0.012 * 23, 4 * 23 - 40, 0.5 * 23)
    for i in range(6):
        yield view(two, 1, 3 * i)


@pytest.fixture(scope="module")
def clip(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "anna.mp4", scenes(examples))


@pytest.fixture(scope="module")
def out(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops") / "anna"
    assert main([str(clip), "--out", str(folder)]) == 0
    return folder


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "crop-report.json").read_text())
    return report


def results(out: Path, clip: str = "anna") -> list[str]:
    """One per frame, without what stands behind the colon."""
    return [result.split(":")[0] for result in report_of(out)["clips"][clip]["frames"].values()]


def written(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("*.jpg"))


def test_every_frame_is_accounted_for(out: Path) -> None:
    told = results(out)
    assert len(told) == 36
    assert told[18:21] == ["blurred"] * 3
    assert told[24:27] == ["no face"] * 3
    assert told[28:30] == ["duplicate"] * 2
    assert set(told[30:]) == {"another person"}
    assert told[:18].count("cropped") > 9
    report = report_of(out)
    assert report["summary"] == Counter(told)
    assert report["clips"]["anna"]["problem"] is None


def test_what_was_cropped_lies_there_and_training_reads_it(out: Path) -> None:
    frames = report_of(out)["clips"]["anna"]["frames"]
    assert written(out) == [name for name, result in frames.items() if result.startswith("cropped")]
    assert all(re.fullmatch(r"anna-\d{6}\.jpg", name) for name in written(out))
    assert load_person(out).crops.shape == (len(written(out)), 3, 80, 80)
    assert not list(out.glob(".*"))


def test_people_are_told_apart_and_one_is_followed_through_the_gap(out: Path) -> None:
    first, *others = report_of(out)["people"]
    assert first["chosen"] and not any(person["chosen"] for person in others)
    assert [(t["from_seconds"], t["to_seconds"]) for t in first["tracks"]] in (
        [(0.0, 1.16)],
        [(0.0, 0.92), (1.08, 1.16)],
    )
    assert [person["frames"] for person in others] == [6, 6]


def test_crops_are_aligned_as_those_of_photos(clip: Path, out: Path) -> None:
    """But for the smoothing, which moves a face by no more than its landmarks shake."""
    detector, template = LibFaceDetection(sides=CLIP_SIDES), Template().with_margin(MARGIN)
    frames = {f"anna-{frame.number:06d}.jpg": frame.image for frame in Clip(clip).frames()}
    for name in written(out)[::4]:
        face = detector.refine(frames[name], detector.detect(frames[name])[0])
        alone = align(frames[name], face.landmarks, template).pixels
        with PillowImage.open(out / name) as file:
            assert look(np.asarray(file)) @ look(alone) > 0.8


def test_the_contact_sheet_has_strips(out: Path) -> None:
    with PillowImage.open(out.parent / SHEET) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    bars = pixels[:, 4]
    starts = [c for c, above in zip(bars[1:], bars[:-1], strict=True) if (c != above).any()]
    seen = {tuple(colour) for colour in starts}
    assert {(38, 84, 140), (140, 58, 46), (70, 74, 82)} <= seen, "kept, dropped, other people"


def test_another_person_replaces_the_first(clip: Path, out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "anna"
    assert main([str(clip), "--out", str(folder), "--person", "2"]) == 0
    second = written(folder)
    assert second and all(int(name[5:11]) >= 30 for name in second)
    mine = folder / "mine.jpg"
    mine.write_bytes((out / written(out)[0]).read_bytes())
    assert main([str(clip), "--out", str(folder)]) == 0
    assert written(folder) == [*written(out), "mine.jpg"], "none of the other person, and no stranger's file"
    assert report_of(folder) == report_of(out), "the same again"


def test_the_most_different_are_kept(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "anna"
    assert main([str(clip), "--out", str(folder), "--most", "5"]) == 0
    assert len(written(folder)) == 5
    numbers = [int(name[5:11]) for name in written(folder)]
    assert numbers[-1] - numbers[0] > 8, "not five neighbours"


def test_a_second_clip_and_photos_join_the_folder(examples: Path, clip: Path, tmp_path: Path) -> None:
    folder, other = tmp_path / "anna", tmp_path / "later.mkv"
    write_clip(other, [view(photo(examples, "b.jpg"), 1, 5 * i) for i in range(4)])
    assert main([str(clip), "--out", str(folder), "--every", "0.4"]) == 0
    assert len(results(folder)) == 4
    before = set(written(folder))
    assert main([str(other), str(examples / "a.jpg"), "--out", str(folder), "--clean"]) == 0
    assert before < set(written(folder)) and "a.jpg" in written(folder)
    assert set(report_of(folder)["clips"]) == {"anna", "later"}
    assert main([str(examples / "b.jpg"), "--out", str(folder)]) == 0
    report = report_of(folder)
    assert set(report["photos"]) == {"a.jpg", "b.jpg"} and set(report["clips"]) == {"anna", "later"}


def test_clean_photos(examples: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    sharp = photo(examples, "a.jpg")
    sharp.save(folder / "a.jpg")
    sharp.save(folder / "b.png")
    sharp.filter(ImageFilter.GaussianBlur(14)).save(folder / "c.jpg")
    sharp.resize((66, 50)).save(folder / "d.jpg")
    (folder / "e.jpg").write_bytes((examples / "no-face.jpg").read_bytes())
    assert main([str(folder), "--out", str(out)]) == 0
    assert written(out) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert main([str(folder), "--out", str(out), "--clean"]) == 0
    told = {name: result.split(":")[0] for name, result in report_of(out)["photos"].items()}
    assert sorted(told.pop(name) for name in ("a.jpg", "b.png")) == ["cropped", "duplicate"]
    assert told == {"c.jpg": "blurred", "d.jpg": "too small", "e.jpg": "NoFaceError"}
    assert len(written(out)) == 1, "what an earlier run made of the dropped ones is gone"


def test_a_cut_off_clip_is_used_as_far_as_it_goes(examples: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.mkv"
    write_clip(whole, [view(photo(examples, "a.jpg").rotate(2 * i), 1, 4 * i) for i in range(40)])
    cut = tmp_path / "anna.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 4])
    assert main([str(cut), "--out", str(tmp_path / "anna")]) == 0
    assert written(tmp_path / "anna")
    assert "of 1.6 seconds" in report_of(tmp_path / "anna")["clips"]["anna"]["problem"]


def test_a_clip_without_anybody_is_no_error(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [black()] * 3)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 0
    assert report_of(tmp_path / "out")["summary"] == {"no face": 3}
    assert (tmp_path / "out-contact-sheet.png").exists()


def refusal(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    capsys.readouterr()
    assert main([str(option) for option in options]) == 2
    line = capsys.readouterr().err
    assert "models.crop: " in line and line.rstrip("\n").split("\n")[-1].startswith("models.crop: "), line
    return line


def test_mistakes_are_one_line(
    examples: Path, clip: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = tmp_path / "out"
    assert "does not exist" in refusal(capsys, tmp_path / "gone.mp4", "--out", fresh)
    assert "no video stream" in refusal(capsys, write_sound(tmp_path / "sound.mp4"), "--out", fresh)
    assert "are for clips" in refusal(capsys, examples / "a.jpg", "--out", fresh, "--person", "2")
    assert "--every and --most" in refusal(capsys, clip, "--out", fresh, "--first", "3")
    assert "several clips would become anna" in refusal(capsys, clip, clip, "--out", fresh)
    short = write_clip(tmp_path / "anna.mp4", [view(photo(examples, "a.jpg"))] * 2)
    assert "another anna" in refusal(capsys, short, "--out", out)
    assert "there is no person 9" in refusal(capsys, short, "--out", fresh, "--person", "9")
    assert "clips are taken one by one" in refusal(capsys, tmp_path, "--out", fresh)
    assert not fresh.exists()


def test_without_pyav_photos_are_still_cropped(
    examples: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install" in refusal(capsys, clip, "--out", tmp_path / "out")
    assert main([str(examples / "a.jpg"), "--out", str(tmp_path / "out")]) == 0
