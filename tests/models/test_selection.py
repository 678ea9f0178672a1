"""What is measured on a crop, what is dropped for it, and who is taken for one person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageEnhance, ImageFilter

from faceswap.alignment import Template
from faceswap.faces import Box, Face, Landmarks, Pixels
from models.dataset import MARGIN
from models.errors import DataError
from models.people import Appearance, choose, people_of
from models.quality import Quality, look, measure
from models.selection import NOT_NEEDED, Candidate, Wishes, drop_duplicates, judge, keep_variety
from models.tracking import Look, Sighting, Track

TEMPLATE = Template().with_margin(MARGIN)
STRAIGHT = Landmarks(TEMPLATE.points)


@pytest.fixture(scope="module")
def crops(will: list[Path]) -> list[Pixels]:
    return [np.asarray(PillowImage.open(path)) for path in will[::30]]


def quality_of(pixels: Pixels, landmarks: Landmarks = STRAIGHT, score: float = 0.92) -> Quality:
    return measure(pixels, landmarks, score, TEMPLATE)


def candidates_of(crops: list[Pixels]) -> list[Candidate]:
    return [Candidate(f"{i}.jpg", quality_of(pixels), (0, 0)) for i, pixels in enumerate(crops)]


def changed(pixels: Pixels, kind: str) -> Pixels:
    picture = PillowImage.fromarray(pixels)
    if kind == "blur":
        return np.asarray(picture.filter(ImageFilter.GaussianBlur(1.2)))
    if kind == "dark":
        return np.asarray(ImageEnhance.Brightness(picture).enhance(0.6))
    raise ValueError(kind)


def test_blur_lowers_the_sharpness_and_a_darker_picture_does_not(crops: list[Pixels]) -> None:
    for pixels in crops:
        sharp = quality_of(pixels).sharpness
        assert quality_of(changed(pixels, "blur")).sharpness < 0.25 * sharp
        assert quality_of(changed(pixels, "dark")).sharpness == pytest.approx(sharp, rel=0.2)


def test_pose_is_read_from_where_the_nose_lies(crops: list[Pixels]) -> None:
    def turned(dx: float, dy: float) -> Quality:
        points = TEMPLATE.points.copy()
        points[2] += (dx, dy)
        return quality_of(crops[0], Landmarks(points))

    straight = quality_of(crops[0])
    assert abs(straight.yaw) < 2 and abs(straight.pitch) < 3
    assert turned(5, 0).yaw > 15 > -15 > turned(-5, 0).yaw
    assert turned(0, 4).pitch > 10 > -10 > turned(0, -4).pitch
    tilted = STRAIGHT.points @ np.array([[0.94, 0.34], [-0.34, 0.94]])
    assert abs(quality_of(crops[0], Landmarks(tilted)).yaw) < 2, "a tilted head is not a turned one"


def test_light_has_a_side(crops: list[Pixels]) -> None:
    def light(pixels: Pixels) -> float:
        return quality_of(np.ascontiguousarray(pixels)).light[0]

    from_the_right = np.linspace(0.3, 1, 80)[None, :, None]
    for pixels in crops:
        lit = (pixels * from_the_right).astype(np.uint8)
        assert light(lit) - light(pixels) == pytest.approx(0.32, abs=0.08)
        assert light(lit[:, ::-1]) == pytest.approx(-light(lit), abs=1e-4)


def test_what_is_bad_is_dropped_with_its_reason(crops: list[Pixels]) -> None:
    good = quality_of(crops[0])
    bad = {
        "too small": replace(good, side=30.0),
        "landmarks lost": replace(good, residual=0.5),
        "blurred": replace(good, sharpness=0.2 * good.sharpness),
        "occluded": replace(good, score=0.87),
    }
    track = [Candidate("good.jpg", good, (0, 0)) for _ in range(9)]
    odd = {reason: Candidate("bad.jpg", quality, (0, 0)) for reason, quality in bad.items()}
    jumped = Candidate("jumped.jpg", good, (0, 0), jump=0.6)
    everything = [*track, *odd.values(), jumped]
    judge(everything, Wishes(), among=everything)
    assert all(candidate.kept for candidate in track)
    assert {reason: candidate.result for reason, candidate in odd.items()} == {
        reason: reason for reason in bad
    }
    assert jumped.result == "landmarks lost"


def test_photos_of_their_own_are_not_compared(crops: list[Pixels]) -> None:
    candidates = candidates_of([*crops, changed(crops[0], "dark")])
    judge(candidates, Wishes())
    assert all(candidate.kept for candidate in candidates)


def test_of_equal_pictures_the_sharpest_stays(crops: list[Pixels]) -> None:
    softer = np.asarray(PillowImage.fromarray(crops[0]).filter(ImageFilter.GaussianBlur(0.4)))
    candidates = candidates_of([softer, crops[0], *crops[1:], changed(crops[0], "dark")])
    drop_duplicates(candidates)
    assert [c.name for c in candidates if not c.kept] == ["0.jpg"]
    assert candidates[0].detail == "of 1.jpg"


def test_variety_takes_one_of_each_kind(crops: list[Pixels]) -> None:
    """Thirty that look ahead and one to each side: three that are kept show all three."""
    good = quality_of(crops[0])
    poses = [*np.linspace(-2, 2, 30), -35.0, 35.0]
    candidates = [Candidate(f"{yaw}.jpg", replace(good, yaw=float(yaw)), (0, 0)) for yaw in poses]
    keep_variety(candidates, 3)
    kept = [c.quality.yaw for c in candidates if c.kept]
    assert len(kept) == 3 and {-35.0, 35.0} < set(kept)
    assert sum(c.result == NOT_NEEDED for c in candidates) == 29


def test_no_more_are_dropped_than_asked_for(crops: list[Pixels]) -> None:
    candidates = candidates_of(crops)
    keep_variety(candidates, len(crops))
    assert all(c.kept for c in candidates)
    keep_variety(candidates, 5)
    assert sum(c.kept for c in candidates) == 5


def test_a_face_is_like_itself_and_less_like_another_pose(crops: list[Pixels]) -> None:
    looks = np.stack([look(pixels) for pixels in crops])
    again = np.stack([look(changed(pixels, "dark")) for pixels in crops])
    assert np.allclose(np.linalg.norm(looks, axis=1), 1, atol=1e-4)
    assert (looks * again).sum(axis=1).min() > 0.9
    assert np.median(looks @ looks.T) < 0.6


def appearance(
    look: Look, frames: range, clip: str = "clip", x: float = 0.0, side: float = 80.0
) -> Appearance:
    track = Track(clip)
    box = Box(x, 0, x + side, side)
    for frame in frames:
        track.add(Sighting(frame, frame / 25, Face(box, Landmarks(STRAIGHT.points), 0.9)), look)
    plain = Quality(0.3, 0.9, 0.1, side, 0.0, 0.0, (0.0, 0.0), -1.0, np.zeros(256, np.float32))
    return Appearance(track, [Candidate(f"{clip}-{f:06d}.jpg", plain, (0, 0), frame=f) for f in frames])


def unit(*values: float) -> Look:
    vector = np.zeros(576, np.float32)
    vector[: len(values)] = values
    return vector / np.float32(np.linalg.norm(vector))


def test_tracks_that_look_alike_are_one_person_the_most_seen_first() -> None:
    shots = [
        appearance(unit(1), range(10)),
        appearance(unit(0, 1), range(20, 60)),
        appearance(unit(1, 0.3), range(80, 90)),
        appearance(unit(1, 0.2), range(5), clip="other"),
    ]
    people = people_of(shots)
    assert [[a.candidates[0].name for a in p.appearances] for p in people] == [
        ["clip-000020.jpg"],
        ["clip-000000.jpg", "clip-000080.jpg", "other-000000.jpg"],
    ]
    assert [p.number for p in people] == [1, 2]


def test_faces_seen_together_are_never_one_person() -> None:
    """Twins, or a face in a mirror."""
    shots = [
        appearance(unit(1), range(10)),
        appearance(unit(1), range(5, 15)),
        appearance(unit(1), range(20, 30)),
    ]
    assert len(people_of(shots)) == 2


@pytest.mark.parametrize(("x", "first", "people"), [(0, 15, 1), (0, 60, 2), (200, 15, 2)])
def test_soon_after_and_in_the_same_place_less_likeness_will_do(x: float, first: int, people: int) -> None:
    shots = [appearance(unit(1), range(10)), appearance(unit(1, 1.2), range(first, first + 10), x=x)]
    assert len(people_of(shots)) == people


def test_choosing_people() -> None:
    people = people_of(
        [
            appearance(unit(1), range(30)),
            appearance(unit(0, 1), range(20)),
            appearance(unit(0, 0, 1), range(40, 50)),
        ]
    )
    assert [p.number for p in choose(people, None)] == [1]
    assert [p.number for p in choose(people, [1, 3])] == [1, 3]
    with pytest.raises(DataError, match="there is no person 4: only 3 people were found"):
        choose(people, [4])
    with pytest.raises(DataError, match="persons 1 and 2 are seen together in frame 0"):
        choose(people, [1, 2])
