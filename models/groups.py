"""Is anybody served worse? Sources by gender and race (UTKFace), and by how bright their photos are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models import metrics as m
from models.dataset import pictures_below
from models.errors import DataError
from models.evaluation import Indices, Row, Ruler, mean_row
from models.judge import face_mask
from models.losses import LUMA
from models.photos import PhotoReader
from models.renderers import Renderer

GENDERS = ("male", "female")
RACES = ("white", "black", "Asian", "Indian", "other")
"""In the order of UTKFace's numbers: AGE_GENDER_RACE_stamp.jpg."""
BETTER_HIGH = ("face_found", "top1", "light")
BETTER_LOW = ("leak", "landmark_error")
SHARES = ("face_found", "top1")
QUARTER = 0.25
Figures = Mapping[str, Mapping[str, float | None]]
"""Group -> row."""
_NAME = re.compile(r"^\d+_([01])_([0-4])_")


@dataclass(frozen=True, slots=True, eq=False)
class GroupSources:
    """Faces (K, 64, 64, 3), and of each its gender and race as UTKFace numbers them, (K, 2)."""

    faces: m.Faces
    labels: Indices

    def members(self) -> dict[str, dict[str, Indices]]:
        """kind -> group -> numbers of its faces. Groups of fewer than two faces are left out."""
        gender, race = self.labels[:, 0], self.labels[:, 1]
        kinds = {
            "gender": {name: gender == g for g, name in enumerate(GENDERS)},
            "race": {name: race == r for r, name in enumerate(RACES)},
            "gender and race": {
                f"{race_name} {gender_name}": (gender == g) & (race == r)
                for r, race_name in enumerate(RACES)
                for g, gender_name in enumerate(GENDERS)
            },
        }
        return {
            kind: {name: np.flatnonzero(chosen) for name, chosen in groups.items() if chosen.sum() > 1}
            for kind, groups in kinds.items()
        }


def read_groups(folder: Path, count: int, reader: PhotoReader) -> GroupSources:
    """`count` sources of each of the ten groups, spread evenly over their photos (by name: by age).

    The rows of a gender or race are those of its cells together. DataError without such photos.
    """
    cells: dict[tuple[int, int], list[Path]] = {}
    for photo in pictures_below(folder):
        if found := _NAME.match(photo.name):
            cells.setdefault((int(found[1]), int(found[2])), []).append(photo)
    if not cells:
        raise DataError(f"{folder} holds no photos named AGE_GENDER_RACE_*, as UTKFace names them")
    chosen = {cell: photos[:: max(1, len(photos) // count)][:count] for cell, photos in sorted(cells.items())}
    every = [(photo, cell) for cell, photos in chosen.items() for photo in photos]
    crops = reader.read_each([photo for photo, _ in every], "photos of groups")
    kept = [(crop, cell) for crop, (_, cell) in zip(crops, every, strict=True) if crop is not None]
    if not kept:
        raise DataError(f"no face was found in any photo of {folder}")
    return GroupSources(np.stack([crop for crop, _ in kept]), np.array([cell for _, cell in kept], np.intp))


def evaluate_groups(renderer: Renderer, sources: GroupSources, ruler: Ruler) -> dict[str, Any]:
    """Rows of every identity and of their mean, for each group; and how far the worst lies behind.

    `ruler` is one over these very sources.
    """
    members = sources.members()
    rows: dict[str, dict[str, Row]] = {}
    for name in ruler.targets.real:
        answers = ruler.answers(renderer, name)
        rows[name] = {
            group: ruler.measure(answers, name, chosen)
            for groups in members.values()
            for group, chosen in groups.items()
        }
    named = [group for groups in members.values() for group in groups]
    everyone = {group: mean_row([rows[name][group] for name in rows]) for group in named}
    sizes = {group: len(chosen) for groups in members.values() for group, chosen in groups.items()}
    kinds = {kind: list(groups) for kind, groups in members.items()}
    identities = len(rows)
    gaps = {name: worst_gap(rows[name], kinds, sizes) for name in rows}
    gaps["mean"] = worst_gap(everyone, kinds, {g: size * identities for g, size in sizes.items()})
    return {"sources": sizes, "kinds": kinds, "rows": rows, "mean": everyone, "gaps": gaps}


def worst_gap(rows: Figures, kinds: dict[str, list[str]], sizes: dict[str, int]) -> dict[str, Any] | None:
    """How far the worst group is behind the mean of its kind, in points: hundredths of the figure's unit.

    For each figure, and of all of them the worst. `noise` is the standard error of a share or a
    correlation over so few faces, in points: a gap of less than twice that may be chance.
    """
    figures: dict[str, dict[str, Any]] = {}
    for figure in (*BETTER_HIGH, *BETTER_LOW):
        gaps = [gap for groups in kinds.values() for gap in _gaps(figure, groups, rows)]
        if gaps:
            points, group, value = max(gaps)
            figures[figure] = {"points": round(points, 2), "group": group}
            if figure in SHARES:
                figures[figure]["noise"] = round(100 * float(np.sqrt(value * (1 - value) / sizes[group])), 2)
            elif figure == "light":
                figures[figure]["noise"] = round(100 * float((1 - value**2) / np.sqrt(sizes[group])), 2)
    if not figures:
        return None
    worst = max(figures, key=lambda figure: figures[figure]["points"])
    return {"figure": worst, **figures[worst], "figures": figures}


def _gaps(figure: str, groups: list[str], rows: Figures) -> list[tuple[float, str, float]]:
    values = {g: value for g in groups if (value := rows[g].get(figure)) is not None}
    if len(values) < 2:
        return []
    mean = float(np.mean(list(values.values())))
    sign = 1 if figure in BETTER_HIGH else -1
    return [(100 * sign * (mean - value), group, value) for group, value in values.items()]


def exposures(faces: m.Faces) -> m.Floats:
    """(N,) mean luma inside the face, 0..255."""
    return np.asarray((faces @ np.array(LUMA))[:, face_mask()].mean(axis=1))


def extremes(faces: m.Faces) -> m.Faces:
    """The darkest quarter of `faces` and then the brightest, (2K, 64, 64, 3)."""
    order = np.argsort(exposures(faces), kind="stable")
    quarter = max(2, int(len(order) * QUARTER))
    chosen: m.Faces = faces[np.concatenate([order[:quarter], order[-quarter:]])]
    return chosen


def evaluate_exposure(renderer: Renderer, ruler: Ruler) -> dict[str, Any]:
    """Every identity on dark and on bright sources; the ruler's are those that `extremes` gives.

    A dark identity on a pale source is the hard case: brightness is skin as much as light.
    """
    luma, quarter = exposures(ruler.sources.faces), len(ruler.sources.faces) // 2
    parts = {"darkest": np.arange(quarter), "brightest": np.arange(quarter, 2 * quarter)}
    rows: dict[str, dict[str, Row]] = {}
    for name in ruler.targets.real:
        answers = ruler.answers(renderer, name)
        rows[name] = {part: ruler.measure(answers, name, chosen) for part, chosen in parts.items()}
    return {
        "sources": {part: len(chosen) for part, chosen in parts.items()},
        "luma": {
            part: [round(float(luma[chosen].min()), 1), round(float(luma[chosen].max()), 1)]
            for part, chosen in parts.items()
        },
        "rows": rows,
        "mean": {part: mean_row([rows[name][part] for name in rows]) for part in parts},
    }
