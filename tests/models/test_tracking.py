"""Following a face: who is who from frame to frame, and landmarks that neither shake nor lag."""

from __future__ import annotations

import numpy as np
import pytest

from faceswap.faces import Box, Face, Image, Landmarks
from models.tracking import MOST_LOOKS, Look, Sighting, Track, Tracker, smooth

SHAPE = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
GREY = Image(np.full((90, 160, 3), 128, dtype=np.uint8))
WHITE = Image(np.full((90, 160, 3), 250, dtype=np.uint8))
STIRRED = Image(np.full((90, 160, 3), 148, dtype=np.uint8))
ANNA, BERTA = np.eye(2, 576, dtype=np.float32)


def seen(frame: int, x: float, y: float = 20.0, size: float = 30.0) -> Sighting:
    box = Box(x, y, x + size, y + size)
    return Sighting(frame, frame / 25, Face(box, Landmarks(SHAPE * size + (x, y)), 0.9))


def feed(tracker: Tracker, sighting: Sighting, image: Image = GREY, look: Look = ANNA) -> Track:
    return tracker.update(image, sighting.seconds, [sighting], [look])[0]


def pause(tracker: Tracker, first: int, count: int) -> None:
    for frame in range(first, first + count):
        tracker.update(GREY, frame / 25, [], [])


def test_a_moving_face_is_one_track() -> None:
    tracker = Tracker("clip")
    tracks = {id(feed(tracker, seen(i, 10 + 12 * i))) for i in range(8)}  # nearly half a face a frame
    assert len(tracks) == 1


def test_two_faces_that_pass_each_other_keep_their_tracks() -> None:
    tracker = Tracker("clip")
    for i in range(20):
        pair = [seen(i, 10 + 5 * i, 10), seen(i, 110 - 5 * i, 40)]
        tracks = tracker.update(GREY, i / 25, pair[:: 1 if i % 2 else -1], [ANNA, ANNA])
        first, second = tracks[:: 1 if i % 2 else -1]
    assert [s.face.box.top for s in first.sightings] == [10] * 20
    assert [s.face.box.top for s in second.sightings] == [40] * 20


@pytest.mark.parametrize(("frames", "same"), [(3, True), (10, True), (30, False)])
def test_some_missed_frames_are_forgiven(frames: int, same: bool) -> None:
    tracker = Tracker("clip")
    before = feed(tracker, seen(0, 50))
    pause(tracker, 1, frames)
    assert (feed(tracker, seen(frames + 1, 50)) is before) is same


def test_slow_sampling_forgives_missed_frames_and_not_seconds() -> None:
    tracker = Tracker("clip")
    before = feed(tracker, seen(0, 50))
    for second in (1, 2):
        tracker.update(GREY, second, [], [])
    assert feed(tracker, seen(75, 50)) is before


def test_a_cut_ends_every_track_even_in_the_same_place() -> None:
    tracker = Tracker("clip")
    before = feed(tracker, seen(0, 50))
    assert feed(tracker, seen(1, 50), WHITE) is not before


def test_where_much_changes_a_face_must_also_look_the_same() -> None:
    tracker = Tracker("clip")
    before = feed(tracker, seen(0, 50), GREY, ANNA)
    assert feed(tracker, seen(1, 50), STIRRED, ANNA) is before
    assert feed(tracker, seen(2, 50), GREY, BERTA) is not before


def test_another_size_or_place_is_another_face() -> None:
    tracker = Tracker("clip")
    before = feed(tracker, seen(0, 50))
    assert feed(tracker, seen(1, 50, size=60)) is not before
    assert feed(tracker, seen(2, 120)) is not before


def test_a_long_track_keeps_few_looks() -> None:
    track = Track("clip")
    for i in range(1000):
        track.add(seen(i, 0), ANNA)
    assert MOST_LOOKS / 2 <= len(track.looks) <= MOST_LOOKS


def track_of(points: list[np.ndarray[tuple[int, int], np.dtype[np.float64]]], rate: float = 25) -> Track:
    track = Track("clip")
    for i, five in enumerate(points):
        track.add(Sighting(i, i / rate, Face(Box(0, 0, 30, 30), Landmarks(five), 0.9)), ANNA)
    return track


def test_smoothing_takes_the_shaking_out() -> None:
    random = np.random.default_rng(0)
    shaken = [SHAPE * 30 + random.normal(0, 1, (5, 2)) for _ in range(60)]
    track = track_of(shaken)
    smoothed = [smooth(track, i)[0] for i in range(4, 56)]
    assert np.std(np.array(smoothed) - SHAPE * 30) < 0.65


def test_smoothing_does_not_lag_behind_a_turn() -> None:
    """A head that swings: the One-Euro filter would be a frame or two late."""
    swing = [SHAPE * 30 + (40 * np.sin(i / 8), 0) for i in range(60)]
    track = track_of(swing)
    late = [np.abs(smooth(track, i)[0] - swing[i]).max() for i in range(60)]
    assert max(late[4:-4]) < 0.3 and max(late) < 1.5


def test_a_jump_is_told_and_the_neighbours_of_a_jump_are_not_blamed() -> None:
    points = [SHAPE * 30 + (i, 0) for i in range(20)]
    points[10] = points[10] + (6, 0)  # half an eye distance
    track = track_of(points)
    jumps = [smooth(track, i)[1] for i in range(20)]
    assert jumps[10] == pytest.approx(0.5, abs=0.02)
    assert max(jumps[:6] + jumps[15:]) < 0.01
    assert max(jumps[:10] + jumps[11:]) < 0.25


def test_sightings_seconds_apart_are_left_as_measured() -> None:
    random = np.random.default_rng(0)
    points = [SHAPE * 30 + random.normal(0, 3, (5, 2)) for _ in range(9)]
    track = track_of(points, rate=1)
    assert all(np.array_equal(smooth(track, i)[0], points[i]) for i in range(9))
    assert smooth(track, 4)[1] == 0
