"""One face through live video: looked for where it was, its landmarks kept from trembling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from faceswap.faces import Face, Image, Landmarks, Points

JUMP = 1.0
"""A landmark that moved by more than this share of the eye distance since the last frame is another face's,
or this face's after a cut."""
PAUSE_S = 0.5
"""After a longer one the old place says nothing about the new."""


class Finder(Protocol):
    """The part of `Swapper` that finds faces."""

    def find_face(self, image: Image, index: int = 0) -> Face:
        """In the whole picture; NoFaceError or NoSuchFaceError."""
        ...

    def follow(self, image: Image, last: Face) -> Face | None:
        """`last`, a face of the frame before, in this one; None if it is not near its old place."""
        ...


@dataclass(frozen=True, slots=True)
class Smoothing:
    """Of the One Euro filter: Casiez, Roussel and Vogel (CHI 2012), section 4.

    The slower a point moves, the more it is smoothed, as trembling shows at rest and lag in motion.
    Speeds are in eye distances per second, so that all sizes of faces are treated alike.
    """

    rest_hz: float = 1.5
    """Cutoff at rest: a detector's whole pixels tremble at the frame rate."""
    per_speed_hz: float = 7.0
    """More cutoff for each eye distance a second: a quick head (2) lags by 10 ms."""
    speed_hz: float = 1.0
    """Cutoff of the speed itself."""


class LandmarkFilter:
    """Smooths the five landmarks of one face over time."""

    def __init__(self, smoothing: Smoothing | None = None) -> None:
        self._smoothing = smoothing or Smoothing()
        self._points: Points | None = None  # (5, 2), smoothed
        self._speed = np.zeros((5, 2))
        self._seconds = 0.0

    def update(self, landmarks: Landmarks, seconds: float) -> Landmarks:
        """The smoothed landmarks at the time `seconds`, which must not go back.

        Begins anew, without smoothing, after a jump or a pause.
        """
        step = seconds - self._seconds
        unit = max(landmarks.eye_distance, 1e-6)
        before, now = self._points, landmarks.points
        if before is None or step > PAUSE_S or _moved(before, now) > JUMP * unit:
            self._points, self._speed = now, np.zeros((5, 2))
        elif step > 0:
            self._points = self._smoothed(before, now, step, unit)
        self._seconds = seconds
        return Landmarks(now if self._points is None else self._points)

    def _smoothed(self, before: Points, now: Points, step: float, unit: float) -> Points:
        smoothing = self._smoothing
        speed = (now - before) / step / unit
        self._speed = self._speed + _share(np.float64(smoothing.speed_hz), step) * (speed - self._speed)
        pace = np.linalg.norm(self._speed, axis=1, keepdims=True)  # (5, 1)
        share = _share(smoothing.rest_hz + smoothing.per_speed_hz * pace, step)
        return np.asarray(before + share * (now - before))


def _moved(before: Points, now: Points) -> float:
    """How far the furthest of the points went, in pixels."""
    return float(np.linalg.norm(now - before, axis=1).max())


def _share(cutoff_hz: npt.NDArray[np.float64] | np.float64, step: float) -> npt.NDArray[np.float64]:
    """What a new value counts for in a low-pass filter of first order, `step` seconds after the last."""
    return np.asarray(1 / (1 + 1 / (2 * math.pi * cutoff_hz * step)))


class FaceFollower:
    """Finds the same face frame after frame. For one stream, one frame at a time.

    `index` says which face it begins with, 0 being the largest. Near its last place is looked first:
    that costs half of a search, and another face that comes nearer does not take over.
    """

    def __init__(self, index: int = 0) -> None:
        self._index = index
        self._last: Face | None = None
        self._filter = LandmarkFilter()

    def find(self, finder: Finder, image: Image, seconds: float) -> Face:
        """The face, by `finder`, in the frame of the time `seconds`, its landmarks smoothed.

        NoFaceError or NoSuchFaceError; the next frame is then searched as a whole.
        """
        last, self._last = self._last, None
        face = finder.follow(image, last) if last else None
        if face is None:
            face = finder.find_face(image, self._index)
            self._filter = LandmarkFilter()
        self._last = face
        return Face(face.box, self._filter.update(face.landmarks, seconds), face.score)
