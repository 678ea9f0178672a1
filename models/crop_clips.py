"""What `models.crop` does for clips, and for photos with --clean: gather, choose, write, report."""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from faceswap.alignment import Template, align
from faceswap.detection import FaceDetector
from faceswap.errors import NoFaceError, SwapError
from faceswap.images import read_image
from models.clips import Footage, Spool, follow
from models.contact_sheet import GREY, Strip, draw_sheet, png_of, strips_of
from models.crop_report import (
    VERSION,
    Earlier,
    clip_entry,
    counts,
    cropped,
    describe,
    person_entry,
    read_earlier,
    write_report,
    write_whole,
)
from models.dataset import MARGIN
from models.errors import DataError
from models.people import Person, choose, people_of
from models.quality import measure
from models.selection import REASONS, Candidate, Wishes, drop_duplicates, judge, keep_variety
from models.video import Clip

log = logging.getLogger("models.crop")
ENOUGH_TO_COMPARE = 5
"""A shorter track is compared with all of its person."""
MOST_OTHERS = 8

Photos = list[tuple[Path, Path]]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What the command was asked for; `numbers` of people, None for the most seen one."""

    clips: list[Clip]
    photos: Photos
    out: Path
    threads: int
    wishes: Wishes
    numbers: list[int] | None = None
    every: float = 0.0


@dataclass(slots=True, eq=False)
class Gathered:
    """All that was found: clips with their people, and photos by name with a crop or the reason for none."""

    footage: list[Footage]
    people: list[Person]
    chosen: list[Person]
    photos: dict[str, Candidate | str] = field(default_factory=dict)

    @property
    def candidates(self) -> list[Candidate]:
        from_photos = [c for c in self.photos.values() if isinstance(c, Candidate)]
        return [*(c for person in self.chosen for c in person.candidates), *from_photos]


def open_clips(paths: list[Path], out: Path, photos: Photos) -> list[Clip]:
    """The clips, opened; raises DataError before any work for what would go wrong after it."""
    clips = [Clip(path) for path in paths]
    doubled = [name for name, count in Counter(path.stem for path in paths).items() if count > 1]
    if doubled:
        raise DataError(
            f"several clips would become {doubled[0]}-000000.jpg; crop them into different folders"
        )
    for path in paths:
        numbered = re.compile(re.escape(path.stem) + r"-\d{6,}")
        if any(numbered.fullmatch(relative.with_suffix("").as_posix()) for _, relative in photos):
            raise DataError(
                f"a photo and a frame of {path.name} would get one name; crop them into different folders"
            )
        entry = read_earlier(out).clips.get(path.stem)
        if entry and (entry.get("file"), entry.get("bytes")) != (path.name, path.stat().st_size):
            raise DataError(
                f"{out} holds crops of another {path.stem}; rename the clip or take another --out"
            )
    return clips


def crop_clips(task: Task, detector: FaceDetector, detector_of_clips: FaceDetector) -> dict[str, Any]:
    """Crops one person of the clips and the largest face of each photo; returns the report.

    Nothing in `out` is touched before all is decided. Crops of the same clips and photos from an
    earlier run that are not wanted now are removed, as its report tells; nothing else ever is.
    """
    template, out = Template().with_margin(MARGIN), task.out
    earlier = read_earlier(out)
    with Spool() as spool:
        footage = [
            follow(clip, detector_of_clips, template, spool, task.threads, task.every) for clip in task.clips
        ]
        people = people_of([a for part in footage for a in part.appearances])
        found = Gathered(footage, people, choose(people, task.numbers) if people or task.numbers else [])
        if task.photos:
            found.photos = photo_candidates(task.photos, detector, template, spool, task.threads)
        select(found, task.wishes)
        report = _report(found, earlier)
        out.mkdir(parents=True, exist_ok=True)
        kept = [c for c in found.candidates if c.kept]
        for name in _stale(found, earlier) - {c.name for c in kept}:
            (out / name).unlink(missing_ok=True)
        # the report first: should this run be stopped, the next one knows what may lie here
        write_report(out, report)
        for candidate in kept:
            write_whole(out / candidate.name, spool.get(candidate.span))
        _write_sheet(found, sheet_path(out), spool)
    return report


def photo_candidates(
    photos: Photos, detector: FaceDetector, template: Template, spool: Spool, threads: int
) -> dict[str, Candidate | str]:
    """Relative path -> the crop of the photo's largest face, or the error that there was."""

    def one(job: tuple[Path, Path]) -> Any:
        try:
            image = read_image(job[0].read_bytes())
            faces = detector.detect(image)
            if not faces:
                raise NoFaceError("no face found")
            face = detector.refine(image, faces[0])
        except SwapError as error:
            return type(error).__name__
        pixels = align(image, face.landmarks, template).pixels
        return pixels, measure(pixels, face.landmarks, face.score, template)

    found: dict[str, Candidate | str] = {}
    with ThreadPoolExecutor(threads) as pool:
        results = tqdm(pool.map(one, photos), total=len(photos), unit="photo", file=sys.stdout)
        for (_, relative), result in zip(photos, results, strict=True):
            name = relative.with_suffix(".jpg").as_posix()
            is_crop = not isinstance(result, str)
            found[relative.as_posix()] = (
                Candidate(name, result[1], spool.put(result[0])) if is_crop else result
            )
    return found


def select(found: Gathered, wishes: Wishes) -> None:
    """Marks what is dropped, and why."""
    for person in found.chosen:
        for appearance in person.appearances:
            track = appearance.candidates
            judge(track, wishes, among=track if len(track) >= ENOUGH_TO_COMPARE else person.candidates)
    judge((c for c in found.photos.values() if isinstance(c, Candidate)), wishes)
    drop_duplicates(found.candidates)
    if wishes.most is not None:
        keep_variety(found.candidates, wishes.most)


def _report(found: Gathered, earlier: Earlier) -> dict[str, Any]:
    """This run's results, and the parts of an earlier one about other clips and photos."""
    photos = {name: c if isinstance(c, str) else describe(c) for name, c in found.photos.items()}
    clips = {part.name: clip_entry(part, found.people, found.chosen) for part in found.footage}
    results = [*photos.values(), *(result for entry in clips.values() for result in entry["frames"].values())]
    return {
        "version": VERSION,
        "summary": counts(results),
        "people": [person_entry(person, person in found.chosen) for person in found.people],
        "clips": {**earlier.clips, **clips},
        "photos": {**earlier.photos, **photos},
    }


def _stale(found: Gathered, earlier: Earlier) -> set[str]:
    """Crops that an earlier run made of this run's clips and photos."""
    names = {name for name in found.photos if name in earlier.photos}
    stale = cropped({name: earlier.photos[name] for name in names})
    for part in found.footage:
        stale |= cropped(earlier.clips.get(part.name, {}).get("frames", {}))
    return stale


def sheet_path(out: Path) -> Path:
    """Beside the folder and not in it: training takes every picture in there for a crop."""
    folder = out.resolve()
    return folder.with_name(f"{folder.name}-contact-sheet.png")


def _write_sheet(found: Gathered, path: Path, spool: Spool) -> None:
    strips: list[Strip] = []
    for person in found.chosen:
        strips += strips_of(f"person {person.number}", person.candidates, REASONS)
    photos = [c for c in found.photos.values() if isinstance(c, Candidate)]
    strips += strips_of("photos", photos, REASONS) if photos else []
    others = [person for person in found.people if person not in found.chosen]
    for person in others[:MOST_OTHERS]:
        number, seen = person.number, person.candidates
        strips.append(
            Strip(f"person {number}: {len(seen)} frames, not taken (--person {number})", seen, GREY)
        )
    if len(others) > MOST_OTHERS:
        strips.append(Strip(f"and {len(others) - MOST_OTHERS} more, seen still less", [], GREY))
    if not strips:
        strips.append(Strip("no face found", [], GREY))
    try:
        write_whole(path, png_of(draw_sheet(strips, lambda candidate: spool.get(candidate.span))))
    except OSError as error:
        log.warning("the crops are written, but not the contact sheet: %s", error)
    else:
        log.info("contact sheet: %s", path)
