"""Which crops are worth training on: what is dropped and why, and variety where only so many are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceswap.faces import CROP_SIZE
from models.quality import Quality

MIN_SIDE = 0.75 * CROP_SIZE
"""Pixels of the photo for the crop's 64. Measured on box widths this is a face of about 33 pixels."""
MIN_SCORE = 0.85
"""99 % of clear faces in LFW score 0.89 or more."""
SCORE_DROP = 0.045
"""Below the track's median: covering the mouth, the eyes or half of a face costs 0.04 to 0.06."""
MAX_RESIDUAL = 0.30
"""LFW reaches 0.20, strong poses 0.26."""
MAX_JUMP = 0.25
"""Of the eye distance, against what the neighbours in time predict: the landmarks were lost."""
MIN_SHARPNESS = 0.04
"""A face blurred by one pixel; the least of LFW is 0.10."""
SHARPNESS_DROP = 0.3
"""Of the track's upper quartile: a blur of three quarters of a pixel or more."""
SAME_PICTURE = 0.14
"""Root mean square difference of two signatures. Different photos of one person differ by 0.21 and more
(three people, 449 photos each), one pixel of shift makes 0.2, a new compression 0.02."""
SAME_LUMA = 0.15
"""Of log luma. The same picture in another light is worth keeping."""

CROPPED = "cropped"
NOT_NEEDED = "enough of its kind"
REASONS = ("too small", "landmarks lost", "blurred", "occluded", "duplicate", NOT_NEEDED)
"""Why a found face is dropped, in the order in which it is asked."""


@dataclass(slots=True, eq=False)
class Candidate:
    """A crop that may be written, as `name` in the folder, and in the end why it was not.

    `span` is where its JPEG lies in the spool. Photos have no track, and their `jump` is 0.
    """

    name: str
    quality: Quality
    span: tuple[int, int]
    jump: float = 0.0
    seconds: float | None = None
    frame: int | None = None
    result: str = CROPPED
    detail: str = ""

    @property
    def kept(self) -> bool:
        return self.result == CROPPED

    def drop(self, reason: str, detail: str = "") -> None:
        self.result, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for; `most` is None for all that are good enough."""

    min_side: float = MIN_SIDE
    most: int | None = None


def judge(candidates: Iterable[Candidate], wishes: Wishes, among: Sequence[Candidate] = ()) -> None:
    """Drops the ones that are bad in themselves, or much worse than the usual `among` their track's."""
    sharpest = float(np.percentile([c.quality.sharpness for c in among], 75)) if among else 0.0
    usual = float(np.median([c.quality.score for c in among])) if among else 0.0
    for candidate in candidates:
        _judge_one(candidate, wishes, sharpest, usual)


def _judge_one(candidate: Candidate, wishes: Wishes, sharpest: float, usual: float) -> None:
    quality = candidate.quality
    if quality.side < wishes.min_side:
        candidate.drop("too small", f"{quality.side:.0f} pixels across")
    elif candidate.jump > MAX_JUMP:
        candidate.drop("landmarks lost", f"a jump of {candidate.jump:.2f} eye distances")
    elif quality.residual > MAX_RESIDUAL:
        candidate.drop("landmarks lost", f"{quality.residual:.2f} eye distances off any face")
    elif quality.sharpness < max(MIN_SHARPNESS, SHARPNESS_DROP * sharpest):
        share = f", {quality.sharpness / sharpest:.2f} of its track's" if sharpest else ""
        candidate.drop("blurred", f"sharpness {quality.sharpness:.3f}{share}")
    elif quality.score < max(MIN_SCORE, usual - SCORE_DROP):
        candidate.drop("occluded", f"score {quality.score:.2f}")


def drop_duplicates(candidates: Iterable[Candidate]) -> None:
    """Of those that look alike the sharpest stays, wherever in the clip the others are."""
    alive = sorted((c for c in candidates if c.kept), key=lambda c: -c.quality.sharpness)
    kept: list[Candidate] = []
    size = alive[0].quality.signature.size if alive else 0
    signatures = np.empty((len(alive), size), dtype=np.float32)
    lumas = np.empty(len(alive))
    nearest = 1 - SAME_PICTURE**2 / 2  # of unit vectors: |a - b|^2 = 2 - 2ab
    for candidate in alive:
        quality, n = candidate.quality, len(kept)
        likeness = signatures[:n] @ quality.signature / size
        likeness[np.abs(lumas[:n] - quality.luma) > SAME_LUMA] = -1
        if n and likeness.max() > nearest:
            candidate.drop("duplicate", f"of {kept[int(likeness.argmax())].name}")
        else:
            signatures[n], lumas[n] = quality.signature, quality.luma
            kept.append(candidate)


def keep_variety(candidates: Iterable[Candidate], most: int) -> None:
    """Keeps `most` that differ most in pose, light and picture: farthest points first (Gonzalez 1985).

    The first is the most ordinary one; then always the one that is least like all chosen so far.
    """
    alive = [c for c in candidates if c.kept]
    if len(alive) <= most:
        return
    features = _features(alive)
    distance = ((features - np.median(features, axis=0)) ** 2).sum(axis=1)
    following = int(distance.argmin())
    distance, chosen = np.full(len(alive), np.inf), set[int]()
    while len(chosen) < most:
        chosen.add(following)
        distance = np.minimum(distance, ((features - features[following]) ** 2).sum(axis=1))
        distance[following] = -1
        following = int(distance.argmax())
    for index, candidate in enumerate(alive):
        if index not in chosen:
            candidate.drop(NOT_NEEDED)


def _features(candidates: Sequence[Candidate]) -> npt.NDArray[np.float64]:
    """(n, 9): yaw, pitch, two of light, luma, and four of the picture (expression) at half their weight.

    Each in deviations and held within 2.5 of them, or the farthest points would be the mistakes.
    """
    qualities = [c.quality for c in candidates]
    told = np.array([(q.yaw, q.pitch, *q.light, q.luma) for q in qualities])
    pictures = np.stack([q.signature for q in qualities]).astype(np.float64)
    centred = pictures - pictures.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    seen = centred @ axes[:, -4:]
    return np.hstack([_deviations(told), _deviations(seen) / 2])


def _deviations(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    spread = np.maximum(values.std(axis=0), 1e-6)
    held: npt.NDArray[np.float64] = np.clip((values - values.mean(axis=0)) / spread, -2.5, 2.5)
    return held
