"""The demo picture: a row per photo, a column per identity."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image as PillowImage

from examples import sheet

ROOT = Path(__file__).parents[2]
BUNDLE = str(ROOT / "tests" / "data" / "identity-bundle")


def test_sheet_shows_sources_and_swaps(tmp_path: Path) -> None:
    out = tmp_path / "demo.png"
    photo = str(ROOT / "examples" / "a.jpg")
    assert sheet.main([photo, photo, "--bundle", BUNDLE, "--out", str(out)]) == 0
    with PillowImage.open(out) as picture:
        step = sheet.SIDE + sheet.GAP
        assert picture.size == (sheet.GAP + 4 * step, sheet.HEAD + 2 * step)
        cells = [
            picture.crop((left, sheet.HEAD, left + sheet.SIDE, sheet.HEAD + sheet.SIDE))
            for left in range(sheet.GAP, sheet.GAP + 4 * step, step)
        ]
    source, echo, negative, cutout = (cell.tobytes() for cell in cells)
    assert source == cutout == echo
    assert source != negative


def test_a_photo_without_a_face_is_one_clear_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    photo = str(ROOT / "examples" / "no-face.jpg")
    assert sheet.main([photo, "--bundle", BUNDLE, "--out", str(tmp_path / "demo.png")]) == 2
    assert capsys.readouterr().err.startswith("examples.sheet: no face")
