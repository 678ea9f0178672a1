"""The auto-crop: what it writes, what it reports, and that serving would have seen the same pixels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from faceswap import NoFaceError, Swapper
from faceswap.alignment import Template
from faceswap.detection import LibFaceDetection
from faceswap.faces import CROP_SIZE
from models.crop import crop_photo, main
from models.dataset import MARGIN, load_crops

ROOT = Path(__file__).parents[2]
INNER = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))


@pytest.fixture(scope="module")
def detector() -> LibFaceDetection:
    return LibFaceDetection()


@pytest.fixture(scope="module")
def swapper(identity_bundle: Path) -> Swapper:
    return Swapper.open(identity_bundle, "cpu", threads=1)


@pytest.fixture
def photos(examples: Path, tmp_path: Path) -> Path:
    """a.jpg, b.jpg, c.jpg without a face, d.jpg that is no picture, deep/e.jpg with two faces."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    named = {"a": "a.jpg", "b": "b.jpg", "c": "no-face.jpg", "deep/e": "two.jpg"}
    for name, example in named.items():
        (folder / f"{name}.jpg").write_bytes((examples / example).read_bytes())
    (folder / "d.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("not a photo, and not looked at")
    return folder


def report_of(out: Path) -> dict[str, str]:
    report: dict[str, str] = json.loads((out / "crop-report.json").read_text())
    return report


def written(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.jpg"))


def test_photos_become_crops_and_a_report(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(photos), "--out", str(out)]) == 0
    assert written(out) == ["a.jpg", "b.jpg", "deep/e.jpg"]
    assert report_of(out) == {
        "a.jpg": "cropped",
        "b.jpg": "cropped",
        "c.jpg": "NoFaceError",
        "d.jpg": "NotAnImageError",
        "deep/e.jpg": "cropped",
    }
    assert load_crops(sorted(out.rglob("*.jpg"))).shape == (3, 3, 80, 80), "training can read them"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--first", "2"], ["a.jpg", "b.jpg"]),
        (["--skip", "1", "--first", "2"], ["b.jpg", "c.jpg"]),
        (["--skip", "4"], ["deep/e.jpg"]),
        (["--skip", "9"], []),
    ],
)
def test_skip_and_first_count_photos_and_not_crops(
    photos: Path, tmp_path: Path, options: list[str], expected: list[str]
) -> None:
    """Else a photo without a face would move the border between seen and unseen ones."""
    out = tmp_path / "out"
    assert main([str(photos), "--out", str(out), *options]) == 0
    assert sorted(report_of(out)) == expected


def test_single_files_are_taken(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(photos / "b.jpg"), str(photos / "deep" / "e.jpg"), "--out", str(out)]) == 0
    assert written(out) == ["b.jpg", "e.jpg"]


@pytest.mark.parametrize("example", ["a.jpg", "b.jpg", "two.jpg"])
def test_training_sees_what_serving_sees(
    examples: Path, swapper: Swapper, detector: LibFaceDetection, example: str
) -> None:
    """The crop's centre, before it becomes a JPEG, is what the service would encode."""
    data = (examples / example).read_bytes()
    crop = np.asarray(crop_photo(data, detector, Template().with_margin(MARGIN)))
    image = swapper.read(data)
    served = swapper.align(image, swapper.find_face(image)).pixels
    assert crop.shape == (CROP_SIZE + 2 * MARGIN, CROP_SIZE + 2 * MARGIN, 3)
    assert np.abs(crop[INNER].astype(int) - served).max() <= 1


def test_the_file_holds_the_crop_but_for_its_compression(
    examples: Path, tmp_path: Path, detector: LibFaceDetection
) -> None:
    assert main([str(examples / "a.jpg"), "--out", str(tmp_path)]) == 0
    crop = crop_photo((examples / "a.jpg").read_bytes(), detector, Template().with_margin(MARGIN))
    with PillowImage.open(tmp_path / "a.jpg") as file:
        error = np.abs(np.asarray(file).astype(int) - np.asarray(crop))
    assert error.mean() < 3


def test_a_photo_without_a_face_is_an_error_of_the_library(
    examples: Path, detector: LibFaceDetection
) -> None:
    with pytest.raises(NoFaceError):
        crop_photo((examples / "no-face.jpg").read_bytes(), detector, Template())


FIRST = """
import threading
import numpy as np
from faceswap.detection import LibFaceDetection
from faceswap.faces import Image

together, black = threading.Barrier(6), Image(np.zeros((64, 64, 3), np.uint8))
detector = LibFaceDetection(sides=(64,))

def detect():
    together.wait()
    detector.detect(black)

threads = [threading.Thread(target=detect) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_the_first_photos_may_be_cropped_at_once() -> None:
    """libfacedetection unpacks its network in its first call, and two first calls at once end the process."""
    for _ in range(4):
        child = subprocess.run([sys.executable, "-c", FIRST], cwd=ROOT, capture_output=True, text=True)
        assert child.returncode == 0, child.stderr


def refusal(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(list(options)) == 2
    line = capsys.readouterr().err
    assert line.startswith("models.crop: ") and line.count("\n") == 1, line
    return line


def test_no_photos_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert "does not exist" in refusal(capsys, str(tmp_path / "gone"), "--out", out)
    assert "no pictures" in refusal(capsys, str(tmp_path), "--out", out)
    assert not (tmp_path / "out").exists()


def test_photos_that_would_overwrite_each_other_are_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (photos / "a.png").write_bytes((photos / "a.jpg").read_bytes())
    assert "would become a.jpg" in refusal(capsys, str(photos), "--out", str(out))
    assert not out.exists()
