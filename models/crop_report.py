"""crop-report.json: what became of each frame and photo, per person; and what earlier runs left."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.clips import Footage
from models.errors import DataError
from models.people import Person
from models.selection import CROPPED, Candidate

REPORT = "crop-report.json"
VERSION = 2
"""1 was the flat object of photos, which photos alone still get."""
NO_FACE = "no face"
SOMEBODY_ELSE = "another person"


@dataclass(slots=True)
class Earlier:
    """The report that lies in the folder already: photos and clips by name; `rich` if it is of version 2."""

    photos: dict[str, str] = field(default_factory=dict)
    clips: dict[str, dict[str, Any]] = field(default_factory=dict)
    rich: bool = False


def read_earlier(out: Path) -> Earlier:
    """Raises DataError for a file that is no report, as it would be overwritten."""
    path = out / REPORT
    if not path.exists():
        return Earlier()
    try:
        report = json.loads(path.read_text())
        if report.get("version") == VERSION:
            return Earlier(dict(report["photos"]), dict(report["clips"]), rich=True)
        return Earlier({str(name): str(result) for name, result in report.items()})
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a report of this command; take another --out") from error


def earlier_or_none(out: Path) -> Earlier:
    """As `read_earlier`, for photos alone: those overwrite whatever lies there, as they always did."""
    try:
        return read_earlier(out)
    except DataError:
        return Earlier()


def with_photos(earlier: Earlier, results: dict[str, str]) -> dict[str, Any]:
    """A report that keeps what is known of clips beside the photos of this run."""
    photos = {**earlier.photos, **results}
    entry = {"version": VERSION, "summary": counts(results.values()), "people": []}
    return {**entry, "clips": earlier.clips, "photos": photos}


def clip_entry(footage: Footage, people: list[Person], chosen: list[Person]) -> dict[str, Any]:
    """A clip's part: the file, what could not be read of it, and the result of every frame looked at."""
    clip = footage.clip
    mine = {c.frame: c for person in chosen for c in person.in_clip(footage.name)}
    anybody = {c.frame for person in people for c in person.in_clip(footage.name)}
    frames = {}
    for number, _ in footage.frames:
        candidate = mine.get(number)
        nobody = SOMEBODY_ELSE if number in anybody else NO_FACE
        frames[footage.crop_name(number)] = describe(candidate) if candidate else nobody
    return {
        "file": clip.path.name,
        "bytes": clip.path.stat().st_size,
        "seconds": round(clip.seconds, 3),
        "frames_read": clip.read,
        "problem": clip.problem,
        "counts": counts(frames.values()),
        "frames": frames,
    }


def person_entry(person: Person, chosen: bool) -> dict[str, Any]:
    """A person's part: where they are seen, and what became of their crops if they were chosen."""
    tracks = [
        {
            "clip": a.track.clip,
            "from_seconds": round(a.track.sightings[0].seconds, 3),
            "to_seconds": round(a.track.sightings[-1].seconds, 3),
            "frames": len(a.track.sightings),
            "pixels": round(a.presence / max(len(a.candidates), 1)),
        }
        for a in sorted(person.appearances, key=lambda a: (a.track.clip, a.track.sightings[0].frame))
    ]
    entry: dict[str, Any] = {
        "person": person.number,
        "chosen": chosen,
        "frames": len(person.candidates),
        "tracks": tracks,
    }
    if chosen:
        entry["counts"] = counts(c.result for c in person.candidates)
    return entry


def describe(candidate: Candidate) -> str:
    """One line: `cropped: yaw 12, pitch -3` or `blurred: ...`; the result is what stands before the colon."""
    if candidate.kept:
        return f"{CROPPED}: yaw {candidate.quality.yaw:.0f}, pitch {candidate.quality.pitch:.0f}"
    return f"{candidate.result}: {candidate.detail}" if candidate.detail else candidate.result


def counts(results: Iterable[str]) -> dict[str, int]:
    """How many of each result, the most frequent first."""
    return dict(Counter(result.split(":")[0] for result in results).most_common())


def cropped(results: dict[str, str]) -> set[str]:
    """Names of the crops that a part of a report says were written."""
    names = (name for name, result in results.items() if result.split(":")[0] == CROPPED)
    return {Path(name).with_suffix(".jpg").as_posix() for name in names}


def write_report(out: Path, report: dict[str, Any]) -> None:
    write_whole(out / REPORT, (json.dumps(report, indent=1) + "\n").encode())


def write_whole(path: Path, data: bytes) -> None:
    """All of `data` or nothing: a run that is stopped leaves no half picture for training to trip over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
