"""From a clip to crops: detect, follow, smooth, align, measure; one pass, few frames in memory."""

from __future__ import annotations

import io
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from PIL import Image as PillowImage
from tqdm import tqdm

from faceswap.alignment import Template, align
from faceswap.detection import FaceDetector
from faceswap.faces import Landmarks, Pixels
from models.people import Appearance
from models.quality import look, measure
from models.selection import Candidate
from models.tracking import REACH, Look, Sighting, Track, Tracker, smooth
from models.video import Clip, Frame

JPEG_QUALITY = 95
CLIP_SIDES = (320, 640)
"""Longer sides at which clips are looked at: one scale for all frames, so that a smaller second face
does not come and go with the first one's size; closer only where there is nothing."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spool:
    """JPEGs on disk until it is known which of them are wanted; gone with the process, even a killed one."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="crops-")  # noqa: SIM115  # closed by __exit__

    def put(self, pixels: Pixels) -> tuple[int, int]:
        """Offset and length of `pixels` (H, W, 3) as a JPEG."""
        buffer = io.BytesIO()
        PillowImage.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
        start = self._file.seek(0, io.SEEK_END)
        return start, self._file.write(buffer.getvalue())

    def get(self, span: tuple[int, int]) -> bytes:
        self._file.seek(span[0])
        return self._file.read(span[1])

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@dataclass(slots=True, eq=False)
class Footage:
    """What a clip gave: the tracks with their candidates, and the frames that were looked at."""

    clip: Clip
    name: str
    appearances: list[Appearance] = field(default_factory=list)
    frames: list[tuple[int, float]] = field(default_factory=list)
    """Number and seconds of each."""

    def crop_name(self, frame: int) -> str:
        return f"{self.name}-{frame:06d}.jpg"


def follow(
    clip: Clip, detector: FaceDetector, template: Template, spool: Spool, threads: int, every: float = 0.0
) -> Footage:
    """Every face of a clip, frame by frame. Detection runs ahead in `threads`; the order stays."""
    footage, tracker = Footage(clip, clip.path.stem), Tracker(clip.path.stem)
    by_track: dict[int, Appearance] = {}
    waiting: deque[tuple[Frame, list[tuple[Track, int]]]] = deque()

    def look_at(frame: Frame) -> tuple[Frame, list[Sighting], list[Look]]:
        return frame, *_sightings(frame, detector, template)

    def settle() -> None:
        frame, seen = waiting.popleft()
        for track, index in seen:
            appearance = by_track.setdefault(id(track), Appearance(track))
            appearance.candidates.append(_candidate(footage, frame, track, index, template, spool))

    expected = round(min(clip.expected, clip.seconds / every)) if every else clip.expected
    with ThreadPoolExecutor(threads) as pool:
        frames = _ahead(pool, look_at, clip.frames(every), depth=2 * threads)
        bar = tqdm(frames, clip.path.name, expected or None, unit="frame", file=sys.stdout)
        for frame, sightings, looks in bar:
            tracks = tracker.update(frame.image, frame.seconds, sightings, looks)
            footage.frames.append((frame.number, frame.seconds))
            waiting.append((frame, [(track, len(track.sightings) - 1) for track in tracks]))
            if len(waiting) > REACH:
                settle()
    while waiting:
        settle()
    footage.appearances = list(by_track.values())
    return footage


def _sightings(frame: Frame, detector: FaceDetector, template: Template) -> tuple[list[Sighting], list[Look]]:
    faces = [detector.refine(frame.image, face) for face in detector.detect(frame.image)]
    looks = [look(align(frame.image, face.landmarks, template).pixels) for face in faces]
    return [Sighting(frame.number, frame.seconds, face) for face in faces], looks


def _candidate(
    footage: Footage, frame: Frame, track: Track, index: int, template: Template, spool: Spool
) -> Candidate:
    """The crop of a sighting, on landmarks smoothed in time, and its measures."""
    points, jump = smooth(track, index)
    landmarks = Landmarks(points)
    pixels = align(frame.image, landmarks, template).pixels
    score = track.sightings[index].face.score
    quality = measure(np.asarray(pixels), landmarks, score, template)
    name = footage.crop_name(frame.number)
    return Candidate(name, quality, spool.put(pixels), jump, frame.seconds, frame.number)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterator[Item], depth: int
) -> Iterator[Result]:
    """`pool.map` that never holds more than `depth` items: a clip's frames would fill the memory."""
    running: deque[Future[Result]] = deque()
    for item in items:
        running.append(pool.submit(function, item))
        if len(running) >= depth:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()
