"""One face through a clip: which box of this frame is which of the last, and landmarks smoothed in time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from faceswap.faces import Box, Face, Image, Points

PATIENCE_SECONDS = 0.5
PATIENCE_FRAMES = 3
"""A face that is missed for longer than both of these has left."""
SAME_PLACE = 0.2
"""Boxes of one face in neighbouring frames share more than this (intersection over union)."""
NEAR = 0.6
"""Else their centres lie closer than this share of their size (a quick head or hand-held camera)."""
SIZES = 1.6
"""And one is at most this much larger."""
CUT = 45.0
"""Mean change of a 24x24 thumbnail, of 255: more is another shot, and no box says who is who."""
STIR = 12.0
"""Less is an ordinary movement; between the two a face must also look like its track (`SAME_LOOK`)."""
SAME_LOOK = 0.5
"""Likeness (`quality.likeness`) in neighbouring frames is about 0.9, of two people 0.25."""
REACH_SECONDS = 0.2
REACH = 4
"""Smoothing looks at up to four sightings within 0.2 s on either side: head turns are slower than that."""

CLEAR = 0.85
"""Score of a face that is not covered, for telling people apart."""
MOST_LOOKS = 32

Thumbnail = npt.NDArray[np.float32]
Look = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A face in a frame."""

    frame: int
    seconds: float
    face: Face


@dataclass(slots=True, eq=False)
class Track:
    """Sightings of what is taken for one face, in time order, within one shot of one clip."""

    clip: str
    sightings: list[Sighting] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    """Of at most 32 clear sightings, spread evenly: unit vectors of appearance (`quality.look`)."""
    last_look: Look | None = None
    missed: int = 0
    _stride: int = 1

    def add(self, sighting: Sighting, look: Look) -> None:
        self.last_look = look
        due = len(self.sightings) % self._stride == 0 and sighting.face.score >= CLEAR
        if due or not self.looks:
            self.looks.append(look)
        if len(self.looks) > MOST_LOOKS:
            self.looks, self._stride = self.looks[::2], 2 * self._stride
        self.sightings.append(sighting)

    def expected(self, seconds: float) -> Box:
        """Where the face should be now, if it moves on as it did between the last two sightings."""
        last = self.sightings[-1]
        if len(self.sightings) < 2:
            return last.face.box
        before = self.sightings[-2]
        ahead = min((seconds - last.seconds) / max(last.seconds - before.seconds, 1e-3), 2.0)
        dx, dy = (_centre(last.face.box) - _centre(before.face.box)) * ahead
        box = last.face.box
        return Box(box.left + dx, box.top + dy, box.right + dx, box.bottom + dy)


class Tracker:
    """Gives the faces of each frame to tracks: greedy by overlap, which few faces a frame allow."""

    def __init__(self, clip: str) -> None:
        self.clip = clip
        self._live: list[Track] = []
        self._thumbnail: Thumbnail | None = None

    def update(
        self, image: Image, seconds: float, sightings: list[Sighting], looks: list[Look]
    ) -> list[Track]:
        """The tracks of a frame's sightings, in their order; new ones for faces that fit none."""
        change = self._change(image)
        if change > CUT:
            self._live = []
        found = self._pairs(sightings, looks, wary=change > STIR)
        tracks = [found.get(index) or self._begin() for index in range(len(sightings))]
        for track, sighting, look in zip(tracks, sightings, looks, strict=True):
            track.add(sighting, look)
        for track in self._live:
            track.missed = 0 if track in tracks else track.missed + 1
        self._live = [t for t in self._live if not _left(t, seconds)]
        return tracks

    def _begin(self) -> Track:
        self._live.append(Track(self.clip))
        return self._live[-1]

    def _change(self, image: Image) -> float:
        small = PillowImage.fromarray(image.pixels).resize(
            (24, 24), PillowImage.Resampling.BOX, reducing_gap=2.0
        )
        thumbnail, before = np.asarray(small, dtype=np.float32), self._thumbnail
        self._thumbnail = thumbnail
        return 0.0 if before is None else float(np.abs(thumbnail - before).mean())

    def _pairs(self, sightings: list[Sighting], looks: list[Look], wary: bool) -> dict[int, Track]:
        """Index of a sighting -> its track, the best fits first."""
        scored = [
            (_fit(track, sighting, looks[j] if wary else None), i, j)
            for i, track in enumerate(self._live)
            for j, sighting in enumerate(sightings)
        ]
        tracks: set[int] = set()
        pairs: dict[int, Track] = {}
        for score, i, j in sorted(scored, key=lambda entry: -entry[0]):
            if score > 0 and i not in tracks and j not in pairs:
                tracks.add(i)
                pairs[j] = self._live[i]
        return pairs


def _left(track: Track, seconds: float) -> bool:
    return track.missed > PATIENCE_FRAMES and seconds - track.sightings[-1].seconds > PATIENCE_SECONDS


def _fit(track: Track, sighting: Sighting, look: Look | None) -> float:
    """0 if the sighting cannot be of this track; overlap counts more than nearness.

    With `look` the face must also look like the track's last.
    """
    expected, box = track.expected(sighting.seconds), sighting.face.box
    if look is not None and track.last_look is not None and float(track.last_look @ look) < SAME_LOOK:
        return 0.0
    size, other = np.sqrt(max(expected.area, 1.0)), np.sqrt(max(box.area, 1.0))
    if max(size / other, other / size) > SIZES:
        return 0.0
    shared = overlap(expected, box)
    if shared > SAME_PLACE:
        return 1.0 + shared
    distance = float(np.hypot(*(_centre(expected) - _centre(box)))) / max(size, other)
    return 1.0 - distance if distance < NEAR else 0.0


def _centre(box: Box) -> Points:
    return np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / max(a.area + b.area - shared, 1e-9)


def smooth(track: Track, index: int) -> tuple[Points, float]:
    """Landmarks (5, 2) of a sighting as its neighbours in time see them, and how far it jumps from them.

    A local quadratic by least squares: Savitzky and Golay (1964), written for uneven times, so that
    a variable frame rate and missed frames are no special case. It looks ahead as well as back, as
    a clip allows; the One-Euro filter, which is made for live video, lags behind a turning head, and
    every crop would be cut where the face was a moment ago.
    The jump is the furthest landmark's distance from what the neighbours alone predict, as a share of
    the eye distance; 0 where there are too few neighbours to tell.
    """
    here = track.sightings[index]
    window = [
        s
        for s in track.sightings[max(index - REACH, 0) : index + REACH + 1]
        if abs(s.seconds - here.seconds) <= REACH_SECONDS
    ]
    measured = here.face.landmarks.points
    if len(window) < 4:
        return measured, 0.0
    times = np.array([s.seconds - here.seconds for s in window]) / REACH_SECONDS
    points = np.stack([s.face.landmarks.points for s in window]).reshape(len(window), 10)
    weights = np.clip(1 - np.abs(times / 1.25) ** 3, 0.05, 1) ** 3  # tricube: near ones count most
    others = np.array([s is not here for s in window])
    alone = _at_zero(times[others], points[others], weights[others]).reshape(5, 2)
    jump = float(np.linalg.norm(alone - measured, axis=1).max()) / max(here.face.landmarks.eye_distance, 1e-6)
    return _at_zero(times, points, weights).reshape(5, 2), jump


def _at_zero(times: Points, values: Points, weights: Points) -> Points:
    """The value at time 0 of the weighted polynomial through `values` (n, k); a line where n is small
    or all neighbours lie on one side, as a parabola runs away there."""
    one_sided = times.min() > -1e-9 or times.max() < 1e-9
    degree = 1 if len(times) < 5 or one_sided else 2
    root = np.sqrt(weights)[:, None]
    basis = np.vander(times, degree + 1, increasing=True)
    solution: Points = np.linalg.lstsq(basis * root, values * root, rcond=None)[0][0]
    return solution
