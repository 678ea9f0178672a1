"""Reading clips: upright, timed, in order, and what happens with damaged ones."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from models.errors import DataError
from models.video import Clip, upright
from tests.models.clip_maker import turn, write_clip, write_sound

RED, GREEN = (220, 30, 30), (30, 200, 40)


def quarters() -> PillowImage.Image:
    """96x64: red in the top left quarter, green in the top right one, black below."""
    picture = PillowImage.new("RGB", (96, 64))
    picture.paste(RED, (0, 0, 48, 32))
    picture.paste(GREEN, (48, 0, 96, 32))
    return picture


def colour(pixels: np.ndarray[Any, Any], x: float, y: float) -> str:
    r, g, b = pixels[int(y * pixels.shape[0]), int(x * pixels.shape[1])]
    return "red" if r > 120 > g else "green" if g > 120 > r else "black" if max(r, g, b) < 60 else "other"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", [quarters()] * 10)


def test_frames_come_in_order_with_their_times_and_colours(clip: Path) -> None:
    opened = Clip(clip)
    frames = list(opened.frames())
    assert [frame.number for frame in frames] == list(range(10))
    assert [frame.seconds for frame in frames] == pytest.approx([i / 25 for i in range(10)])
    assert frames[0].image.pixels.shape == (64, 96, 3)
    assert np.abs(frames[0].image.pixels[16, 24].astype(int) - RED).max() < 12
    assert (opened.read, opened.problem, opened.expected) == (10, None, 10)


@pytest.mark.parametrize("suffix", ["mov", "mkv", "avi"])
def test_other_containers(tmp_path: Path, suffix: str) -> None:
    opened = Clip(write_clip(tmp_path / f"clip.{suffix}", [quarters()] * 4))
    assert len(list(opened.frames())) == 4
    assert opened.problem is None


# where red and green are to be found (x, y as shares) after each way of holding the camera
TURNS: Mapping[tuple[int, int, int, int], Sequence[tuple[float, float]]] = {
    (1, 0, 0, 1): ((0.25, 0.25), (0.75, 0.25)),
    (0, 1, -1, 0): ((0.75, 0.25), (0.75, 0.75)),  # a quarter clockwise
    (-1, 0, 0, -1): ((0.75, 0.75), (0.25, 0.75)),
    (0, -1, 1, 0): ((0.25, 0.75), (0.25, 0.25)),
    (-1, 0, 0, 1): ((0.75, 0.25), (0.25, 0.25)),  # a mirror
}


@pytest.mark.parametrize("matrix", TURNS)
def test_frames_are_upright(clip: Path, matrix: tuple[int, int, int, int]) -> None:
    turn(clip, matrix)
    pixels = next(Clip(clip).frames()).image.pixels
    assert pixels.shape == ((64, 96, 3) if matrix[0] else (96, 64, 3))
    red, green = TURNS[matrix]
    assert (colour(pixels, *red), colour(pixels, *green)) == ("red", "green")


def test_a_turn_is_a_turn_and_no_mirror() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    clockwise = upright(pixels, np.array([[0, 65536], [-65536, 0]], dtype=np.int32))
    assert np.array_equal(clockwise, np.rot90(pixels, -1))


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 1, 2, 10, 11, 40]
    frames = Clip(write_clip(tmp_path / "clip.mkv", [quarters()] * 6, times)).frames()
    assert [frame.seconds for frame in frames] == pytest.approx([t / 25 for t in times], abs=2e-3)


def test_one_frame_each_so_many_seconds(tmp_path: Path) -> None:
    opened = Clip(write_clip(tmp_path / "clip.mp4", [quarters()] * 50))
    assert [frame.number for frame in opened.frames(every=0.5)] == [0, 13, 25, 38]
    assert opened.read == 50


def test_a_cut_off_clip_gives_what_there_is(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "clip.mkv", noise(60))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    opened = Clip(cut)
    read = len(list(opened.frames()))
    assert 10 < read < 50
    assert opened.problem and "of 2.4 seconds" in opened.problem


def test_damage_in_the_middle_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", noise(40))
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 4 + (len(data) * 2 // 5)
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(bytes(data))
    opened = Clip(path)
    assert len(list(opened.frames())) > 20
    assert opened.problem


def noise(count: int) -> list[PillowImage.Image]:
    random = np.random.default_rng(0)
    return [PillowImage.fromarray(random.integers(0, 255, (64, 96, 3), dtype=np.uint8)) for _ in range(count)]


def test_a_file_that_is_no_video_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("no video")
    with pytest.raises(DataError, match="cannot be read as a video"):
        Clip(tmp_path / "clip.mp4")
    with pytest.raises(DataError, match="has no video stream"):
        Clip(write_sound(tmp_path / "sound.mp4"))


def test_without_pyav_the_line_says_what_to_install(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # what an import meets where it is not installed
    with pytest.raises(DataError, match="pip install"):
        Clip(clip)
