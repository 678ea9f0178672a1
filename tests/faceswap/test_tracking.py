"""The same face from frame to frame, and landmarks that do not tremble."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from faceswap import Box, Face, Image, Landmarks, NoFaceError, Swapper
from faceswap.faces import Points
from faceswap.tracking import FaceFollower, LandmarkFilter

FACE = np.array([[40, 40], [80, 40], [60, 60], [45, 80], [75, 80]], dtype=np.float64)
FPS = 30.0


def moved(dx: float) -> Points:
    return np.asarray(FACE + np.array((dx, 0)))


def smoothed(frames: list[Points], start: float = 100.0) -> Points:
    """(n, 5, 2) of (n, 5, 2) at 30 frames a second."""
    filter_ = LandmarkFilter()
    return np.stack([filter_.update(Landmarks(f), start + n / FPS).points for n, f in enumerate(frames)])


def test_trembling_at_rest_is_smoothed() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (120, 5, 2))
    out = smoothed([FACE + shift for shift in noise])[30:]
    tremble, before = np.diff(out, axis=0).std(), np.diff(noise[30:], axis=0).std()
    assert tremble < 0.35 * before
    assert np.abs(out.mean(axis=0) - FACE).max() < 0.7


def test_a_moving_face_hardly_lags() -> None:
    frames = [moved(n * 80 / FPS) for n in range(60)]  # two eye distances a second
    lag = np.linalg.norm(smoothed(frames)[30:] - np.stack(frames)[30:], axis=2).max()
    assert lag < 0.05 * 40


def test_the_size_of_the_face_does_not_matter() -> None:
    noise = np.random.default_rng(1).normal(0, 1, (40, 5, 2))
    frames = [FACE + shift for shift in noise]
    assert np.allclose(5 * smoothed(frames), smoothed([5 * frame for frame in frames]))


@pytest.mark.parametrize(("shift", "seconds"), [(50.0, 1 / FPS), (10.0, 0.6)])
def test_a_jump_and_a_pause_begin_anew(shift: float, seconds: float) -> None:
    filter_ = LandmarkFilter()
    filter_.update(Landmarks(FACE), 1.0)
    again = filter_.update(Landmarks(FACE + shift), 1.0 + seconds)
    assert np.array_equal(again.points, FACE + shift)


def test_two_frames_of_the_same_moment_are_no_division_by_zero() -> None:
    filter_ = LandmarkFilter()
    filter_.update(Landmarks(FACE), 1.0)
    assert np.array_equal(filter_.update(Landmarks(FACE + 1), 1.0).points, FACE)


class Script:
    """Plays what `follow` and `find_face` answer: x offsets, None for no face."""

    def __init__(self, near: list[float | None], whole: list[float | None]) -> None:
        self.near, self.whole = near, whole

    def find_face(self, image: Image, index: int = 0) -> Face:
        assert (image.width, index) == (8, 1)
        offset = self.whole.pop(0)
        if offset is None:
            raise NoFaceError("none")
        return _face(offset)

    def follow(self, image: Image, last: Face) -> Face | None:
        assert (image.width, last.score) == (8, 0.9)
        offset = self.near.pop(0)
        return None if offset is None else _face(offset)


def _face(offset: float) -> Face:
    return Face(Box(offset, 0, offset + 50, 60), Landmarks(moved(offset)), 0.9)


def test_a_lost_face_is_searched_at_once_and_after_no_face_in_the_whole_frame() -> None:
    image = Image(np.zeros((8, 8, 3), np.uint8))
    script = Script(near=[1, None, None], whole=[0, 20, None, 30])
    follower = FaceFollower(1)
    offsets = [follower.find(script, image, n / FPS).box.left for n in range(3)]
    with pytest.raises(NoFaceError):
        follower.find(script, image, 3 / FPS)
    found = follower.find(script, image, 4 / FPS)
    assert offsets == [0, 1, 20]
    assert np.array_equal(found.landmarks.points, moved(30)), "not smoothed towards the lost one"
    assert (script.near, script.whole) == ([], [])


def test_a_real_face_is_followed_across_the_picture(swapper: Swapper, photo: Callable[[str], Image]) -> None:
    pixels = photo("a.jpg").pixels
    start = swapper.find_face(Image(pixels))
    follower = FaceFollower()
    follower.find(swapper, Image(pixels), 0.0)
    for step in range(1, 8):
        frame = Image(np.roll(pixels, 12 * step, axis=1))
        near = swapper.follow(frame, Face(_shifted(start.box, 12 * (step - 1)), start.landmarks, 1.0))
        assert near is not None
        face = follower.find(swapper, frame, step / FPS)
        error = np.abs(face.landmarks.points - start.landmarks.points - (12 * step, 0)).max()
        assert error < 0.1 * start.landmarks.eye_distance
    assert swapper.follow(Image(np.zeros_like(pixels)), face) is None


def _shifted(box: Box, dx: float) -> Box:
    return Box(box.left + dx, box.top, box.right + dx, box.bottom)
