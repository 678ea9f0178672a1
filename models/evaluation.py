"""How good swaps are: one ruler for ours, for the peer and for both ends of the scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from faceswap.detection import FaceDetector
from models import metrics as m
from models.embeddings import Embedder
from models.judge import face_mask
from models.renderers import Renderer, to_tensor

Row = dict[str, float | None]
"""Figures by name; None where nothing could be measured, such as landmarks without any face found."""
Indices = npt.NDArray[np.intp]
Columns = list[torch.Tensor]
"""Of a sheet, each (N, 3, 64, 64) in 0..255."""


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """Aligned crops (N, 64, 64, 3): the sources, each identity's unseen photos, other people."""

    sources: m.Faces
    unseen: dict[str, m.Faces]
    others: list[m.Faces]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Swaps, and what judge (N, 128) and detector say of them."""

    faces: m.Faces
    embeddings: m.Floats
    points: list[m.Floats | None]


@dataclass(frozen=True, slots=True, eq=False)
class Instruments:
    """What measures: the judge of identity and the finder of landmarks."""

    embedder: Embedder
    detector: FaceDetector

    def look(self, faces: m.Faces, what: str, *, keep: bool = False) -> Answers:
        """`keep` for real photos, whose embeddings are worth a place in the cache."""
        embeddings = self.embedder.embed(faces, what, keep=keep)
        return Answers(faces, embeddings, m.landmarks(self.detector, faces))


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Who is swapped in: embeddings of unseen photos, and everybody that a swap can be mistaken for."""

    real: dict[str, m.Floats]
    """identity -> embeddings (K, 128) of every second unseen photo; the other half is in the gallery."""
    gallery: m.Floats
    """(M, 128), one mean embedding a person, the identities first."""

    @classmethod
    def of(cls, sets: Sets, embedder: Embedder) -> Self:
        unseen = {
            name: embedder.embed(faces, f"photos of {name}", keep=True) for name, faces in sets.unseen.items()
        }
        centres = [embeddings[::2].mean(axis=0) for embeddings in unseen.values()]
        together = embedder.embed(np.concatenate(sets.others), "gallery", keep=True)
        ends = np.cumsum([len(faces) for faces in sets.others])[:-1]
        others = [embeddings.mean(axis=0) for embeddings in np.split(together, ends)]
        return cls({name: e[1::2] for name, e in unseen.items()}, np.stack([*centres, *others]))

    def number(self, identity: str) -> int:
        """Its row in the gallery."""
        return list(self.real).index(identity)


@dataclass(frozen=True, slots=True, eq=False)
class Ruler:
    """What the answers to `sources` are held against; the sources themselves are in the gallery too."""

    instruments: Instruments
    sources: Answers
    targets: Targets
    gallery: m.Floats

    @classmethod
    def of(cls, instruments: Instruments, faces: m.Faces, targets: Targets, what: str = "sources") -> Self:
        sources = instruments.look(faces, what, keep=True)
        return cls(instruments, sources, targets, np.concatenate([targets.gallery, sources.embeddings]))

    def answers(self, renderer: Renderer, identity: str, who: str = "") -> Answers:
        """The swaps of all sources."""
        swaps = renderer.swap(self.sources.faces, identity)
        return self.instruments.look(swaps, f"{who}swaps to {identity}")

    def measure(self, answers: Answers, identity: str, chosen: Indices | None = None) -> Row:
        """The figures of answers to the first sources, or of those `chosen` by number.

        The leak is 0 where swaps are as far from their sources as real photos of the target are.
        """
        sources, count = self.sources, len(answers.faces)
        every = np.arange(count) if chosen is None else chosen
        compared = sources.embeddings if chosen is None else sources.embeddings[chosen]
        apart = m.all_pairs_distance(self.targets.real[identity], compared)
        embeddings, target = answers.embeddings[every], self.targets.number(identity)
        found = [answers.points[i] for i in every]
        row = {
            "face_found": float(np.mean([points is not None for points in found])),
            "top1": m.top1(embeddings, self.gallery, target),
            "d_target": m.mean_distance(embeddings, self.gallery[target]),
            "leak": apart - m.mean_distance(embeddings, sources.embeddings[every]),
            "landmark_error": m.landmark_error([sources.points[i] for i in every], found),
            "light": _light(sources.faces[every], answers.faces[every]),
        }
        return {key: round(value, 4) if math.isfinite(value) else None for key, value in row.items()}


def _light(sources: m.Faces, swaps: m.Faces) -> float:
    if len(sources) < 2:
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):  # faces without any light have no correlation
        return m.light_correlation(sources, swaps, face_mask())


def evaluate(renderer: Renderer, sets: Sets, ruler: Ruler) -> tuple[dict[str, Any], Columns]:
    """All figures of each identity, and the columns of a sheet: the sources, then each one's answers.

    The ends of the scale, a copy of the source and a real unseen photo of the target, are measured
    the same way; the real photos are those that are not in the gallery.
    """
    identities: dict[str, Any] = {}
    columns = [to_tensor(sets.sources)]
    for name, unseen in sets.unseen.items():
        row, swaps = _identity(renderer, name, unseen, ruler)
        photos = ruler.instruments.look(unseen[1::2][: len(sets.sources)], "real photos", keep=True)
        identities[name] = {
            **row,
            "copy_of_source": ruler.measure(ruler.sources, name),
            "real_photo": ruler.measure(photos, name),
            **renderer.fingerprint(name),
        }
        columns.append(to_tensor(swaps))
    result = {
        "judge": ruler.instruments.embedder.name,
        "sources": len(sets.sources),
        "gallery": len(ruler.gallery),
        "unseen": {name: len(crops) for name, crops in sets.unseen.items()},
        "identities": identities,
        "mean": mean_row(list(identities.values())),
    }
    return result, columns


def evaluate_peer(peer: Renderer, sets: Sets, ruler: Ruler) -> tuple[dict[str, Any], Columns]:
    """The same figures of the peer, on the same sources and photos, for the identities that it knows."""
    rows, columns = {}, [to_tensor(sets.sources)]
    for name in [name for name in sets.unseen if name in peer.identities]:
        row, swaps = _identity(peer, name, sets.unseen[name], ruler, "the peer's ")
        rows[name] = {**row, **peer.fingerprint(name)}
        columns.append(to_tensor(swaps))
    return {"identities": rows, "mean": mean_row(list(rows.values()))}, columns


def _identity(
    renderer: Renderer, name: str, unseen: m.Faces, ruler: Ruler, who: str = ""
) -> tuple[Row, m.Faces]:
    answers = ruler.answers(renderer, name, who)
    return {**ruler.measure(answers, name), **likeness(renderer.swap(unseen, name), unseen)}, answers.faces


def likeness(decoded: m.Faces, true: m.Faces) -> Row:
    """Of a reconstruction to the photo, inside the face."""
    mask = face_mask()
    return {"ssim": round(m.ssim(decoded, true, mask), 4), "psnr": round(m.psnr(decoded, true, mask), 2)}


def mean_row(rows: Sequence[dict[str, Any]]) -> Row:
    """Figure by figure; what was not measured in a row is left out of its mean."""
    keys = (
        [key for key, value in rows[0].items() if value is None or isinstance(value, float)] if rows else []
    )
    mean: Row = {}
    for key in keys:
        values = [row[key] for row in rows if row.get(key) is not None]
        mean[key] = round(float(np.mean(values)), 4) if values else None
    return mean
