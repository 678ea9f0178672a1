"""Who is who across shots: tracks of one person brought together, carefully, without a recogniser."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from models.errors import DataError
from models.selection import Candidate
from models.tracking import Track, overlap

ALIKE = 0.75
"""Two tracks are one person if their most similar crops are this alike (dot product of `quality.look`).
Among 6,972 pairs of different people in LFW, 8 to 32 photos of each, the largest is 0.70, and among
three rendered people with 449 each 0.71."""
ALIKE_NEARBY = 0.5
"""Enough where one track ends and the other begins in the same place within a second."""
NEARBY_SECONDS = 1.0
NEARBY = 0.3


@dataclass(slots=True, eq=False)
class Appearance:
    """A track and its candidates."""

    track: Track
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def presence(self) -> float:
        """Sum of the face's side over its frames: long and large counts, in pixels."""
        return sum(candidate.quality.side for candidate in self.candidates)

    @property
    def frames(self) -> set[tuple[str, int]]:
        return {(self.track.clip, s.frame) for s in self.track.sightings}


@dataclass(slots=True, eq=False)
class Person:
    """Tracks that are taken for one person; `number` counts from 1, the most present first."""

    number: int
    appearances: list[Appearance]

    @property
    def candidates(self) -> list[Candidate]:
        return [candidate for appearance in self.appearances for candidate in appearance.candidates]

    def in_clip(self, clip: str) -> list[Candidate]:
        return [
            c
            for appearance in self.appearances
            if appearance.track.clip == clip
            for c in appearance.candidates
        ]


def people_of(appearances: list[Appearance]) -> list[Person]:
    """All people of the clips, the most present first.

    Single linkage, the most alike tracks first; two tracks seen in one frame are never one person,
    nor are the groups they are in. When in doubt they stay apart: `--person 1,3` joins them by eye.
    """
    groups = [[appearance] for appearance in appearances]
    owner = list(range(len(appearances)))
    frames = [appearance.frames for appearance in appearances]
    for i, j in _likely_pairs(appearances):
        a, b = owner[i], owner[j]
        if a == b or frames[a] & frames[b]:
            continue
        groups[a] += groups[b]
        frames[a] |= frames[b]
        groups[b] = []
        owner = [a if group == b else group for group in owner]
    present = [(sum(x.presence for x in group), group) for group in groups if group]
    present.sort(key=lambda entry: -entry[0])
    return [Person(number, group) for number, (_, group) in enumerate(present, 1)]


def choose(people: list[Person], numbers: list[int] | None) -> list[Person]:
    """The most present person, or those asked for; raises DataError for a number that nobody has."""
    wrong = [n for n in numbers or [] if not 1 <= n <= len(people)]
    if wrong:
        found = f"only {len(people)} people were" if len(people) != 1 else "only one person was"
        raise DataError(f"there is no person {wrong[0]}: {found} found")
    chosen = [p for p in people if p.number in (numbers or [1])]
    for a, b in combinations(chosen, 2):
        together = {f for x in a.appearances for f in x.frames} & {f for x in b.appearances for f in x.frames}
        if together:
            clip, frame = min(together)
            raise DataError(f"persons {a.number} and {b.number} are seen together in frame {frame} of {clip}")
    return chosen


def _likely_pairs(appearances: list[Appearance]) -> list[tuple[int, int]]:
    """Pairs of tracks that may be one person, the most alike first."""
    if len(appearances) < 2:
        return []
    looks = [np.stack(appearance.track.looks) for appearance in appearances]  # each (at most 32, 576)
    starts = np.cumsum([0, *[len(part) for part in looks[:-1]]])
    everything = np.concatenate(looks)
    pairs: list[tuple[float, int, int]] = []
    for i, mine in enumerate(looks):
        alike = np.maximum.reduceat((mine @ everything.T).max(axis=0), starts)  # (tracks,)
        later = range(i + 1, len(looks))
        pairs += [
            (float(alike[j]), i, j) for j in later if alike[j] >= _enough(appearances[i], appearances[j])
        ]
    return [(i, j) for _, i, j in sorted(pairs, key=lambda pair: -pair[0])]


def _enough(a: Appearance, b: Appearance) -> float:
    return ALIKE_NEARBY if _nearby(a.track, b.track) else ALIKE


def _nearby(a: Track, b: Track) -> bool:
    """Whether one goes on soon after the other and in its place: an occlusion, a flash, a black frame."""
    first, second = (a, b) if a.sightings[0].seconds <= b.sightings[0].seconds else (b, a)
    end, start = first.sightings[-1], second.sightings[0]
    gap = start.seconds - end.seconds
    return a.clip == b.clip and 0 < gap <= NEARBY_SECONDS and overlap(end.face.box, start.face.box) > NEARBY
