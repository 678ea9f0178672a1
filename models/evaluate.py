"""python -m models.evaluate BUNDLE: how good the swaps are, on people and photos that training never saw."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from faceswap.alignment import Template
from faceswap.detection import FaceDetector
from faceswap.errors import SwapError
from faceswap.swapper import Swapper
from models import metrics as m
from models.dataset import held_out, person_of, pictures_below
from models.errors import DataError, TrainingError
from models.judge import DlibJudge, Judge, embed_all, face_mask
from models.previews import sheet

log = logging.getLogger("models.evaluate")
PHOTOS_PER_PERSON = 5
Row = dict[str, float | None]
"""Figures by name; None where nothing could be measured, such as landmarks without any face found."""


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """Aligned crops (N, 64, 64, 3): the sources, each identity's unseen photos, other people."""

    sources: m.Faces
    unseen: dict[str, m.Faces]
    others: list[m.Faces]


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        swapper = Swapper.open(options.bundle, "cpu")
        sets = _sets(swapper, options)
        result, picture = evaluate(swapper, sets, DlibJudge())
        result["first_source"] = options.start
    except (TrainingError, SwapError, OSError) as error:
        sys.stderr.write(f"models.evaluate: {error}\n")
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    sheet(picture).save(options.out.with_suffix(".png"))
    log.info("%s", table(result))
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class Ruler:
    """What all swaps are held against: the sources, and a gallery of one embedding (M, 128) a person."""

    judge: Judge
    detector: FaceDetector
    sources: m.Faces
    embeddings: m.Floats
    """Of the sources, (N, 128)."""
    points: list[m.Floats | None]
    """The sources' landmarks."""
    gallery: m.Floats

    def measure(self, faces: m.Faces, target: int, real: m.Floats) -> Row:
        """The figures of `faces`, the answers to the first sources; `target` is the gallery's number.

        `real` (K, 128) are unseen photos of the target: as far from the sources as it gets.
        """
        count = len(faces)
        embeddings, found = embed_all(self.judge, faces), m.landmarks(self.detector, faces)
        apart = m.all_pairs_distance(real, self.embeddings)
        row = {
            "face_found": float(np.mean([points is not None for points in found])),
            "top1": m.top1(embeddings, self.gallery, target),
            "d_target": m.mean_distance(embeddings, self.gallery[target]),
            "leak": apart - m.mean_distance(embeddings, self.embeddings[:count]),
            "landmark_error": m.landmark_error(self.points[:count], found),
            "light": m.light_correlation(self.sources[:count], faces, face_mask()),
        }
        return {key: round(value, 4) if math.isfinite(value) else None for key, value in row.items()}


def evaluate(swapper: Swapper, sets: Sets, judge: Judge) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """All metrics, and the columns of a sheet: the sources, then each identity's answers.

    The gallery for top-1 is one mean embedding per person: the identities by half of their unseen
    photos, the sources themselves, and the others. The ends of the scale, a copy of the source and
    a real unseen photo of the target, are measured the same way, with the other half.
    """
    unseen = {name: embed_all(judge, crops) for name, crops in sets.unseen.items()}
    ruler = _ruler(swapper.detector, sets, unseen, judge)
    identities, columns = {}, [_column(sets.sources)]
    for target, (name, crops) in enumerate(sets.unseen.items()):
        real, swaps = unseen[name][1::2], _swap(swapper, sets.sources, name)
        identities[name] = {
            **ruler.measure(swaps, target, real),
            **_likeness(_swap(swapper, crops, name), crops),
            "copy_of_source": ruler.measure(sets.sources, target, real),
            "real_photo": ruler.measure(crops[1::2][: len(swaps)], target, real),
            "decoder_sha256": swapper.bundle.identity(name).decoder.sha256,
        }
        columns.append(_column(swaps))
    result = {
        "judge": judge.name,
        "sources": len(sets.sources),
        "gallery": len(ruler.gallery),
        "unseen": {name: len(crops) for name, crops in sets.unseen.items()},
        "identities": identities,
    }
    return result, columns


def _ruler(detector: FaceDetector, sets: Sets, unseen: dict[str, m.Floats], judge: Judge) -> Ruler:
    sources = embed_all(judge, sets.sources)
    centres = [embeddings[::2].mean(axis=0) for embeddings in unseen.values()]
    people = tqdm(sets.others, unit="person", file=sys.stdout)
    others = [embed_all(judge, crops).mean(axis=0) for crops in people]
    gallery = np.stack([*centres, *others, *sources])
    return Ruler(judge, detector, sets.sources, sources, m.landmarks(detector, sets.sources), gallery)


def _likeness(decoded: m.Faces, true: m.Faces) -> Row:
    mask = face_mask()
    return {"ssim": round(m.ssim(decoded, true, mask), 4), "psnr": round(m.psnr(decoded, true, mask), 2)}


def _column(faces: m.Faces) -> torch.Tensor:
    return torch.from_numpy(faces).permute(0, 3, 1, 2)


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    columns = ("face_found", "top1", "d_target", "leak", "landmark_error", "light", "ssim", "psnr")
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in result["identities"].items():
        lines.append(_line(name, row, columns))
        lines.append(_line(f"{name}: a real photo", row["real_photo"], columns))
    first = next(iter(result["identities"].values()))
    lines.append(_line("a copy of the source", first["copy_of_source"], columns))
    return "\n".join(lines)


def _line(name: str, row: Row, columns: tuple[str, ...]) -> str:
    digits = {"psnr": 1}
    values = [(key, row.get(key)) for key in columns]
    cells = ["-" if value is None else f"{value:.{digits.get(key, 2)}f}" for key, value in values]
    return f"| {name} | " + " | ".join(cells) + " |"


def _swap(swapper: Swapper, crops: m.Faces, name: str) -> m.Faces:
    parts = [swapper.decode(swapper.encode(crops[i : i + 16]), name) for i in range(0, len(crops), 16)]
    return np.concatenate(parts)


def _sets(swapper: Swapper, options: argparse.Namespace) -> Sets:
    """Photos to crops, by the calls that serving makes. Sources and gallery are held-out people only."""
    if list(swapper.manifest.crop.template) != list(Template().shares):
        log.warning("the bundle's crop template is not the default one; figures are not comparable")
    people: dict[str, list[Path]] = {}
    for folder in [options.sources, *options.gallery]:
        for picture in pictures_below(folder):
            person = person_of(picture, folder)
            if held_out(person):
                people.setdefault(f"{folder.name}/{person}", []).append(picture)
    prefix = f"{options.sources.name}/"
    candidates = [name for name in sorted(people) if name.startswith(prefix)]
    chosen = candidates[options.start :: max(1, len(candidates) // options.count)][: options.count]
    rest = [name for name in sorted(people) if name not in chosen]
    if len(chosen) < options.count or len(rest) < 100:
        raise DataError(
            f"only {len(chosen)} held-out sources and {len(rest)} others; a measure needs more people"
        )
    rest = rest[:: max(1, len(rest) // options.others)][: options.others]
    sources = _crops(swapper, [people[name][0] for name in chosen])
    others = [_crops(swapper, people[name][:PHOTOS_PER_PERSON]) for name in rest]
    unseen = {
        n: _crops(swapper, pictures_below(options.people / n)[options.skip :]) for n in swapper.identities
    }
    short = sorted(name for name, crops in unseen.items() if len(crops) < 2)
    if short:
        raise DataError(f"{', '.join(short)}: no photos with a face are left after the first {options.skip}")
    return Sets(sources, unseen, [crops for crops in others if len(crops)])


def _crops(swapper: Swapper, photos: list[Path]) -> m.Faces:
    """(N, 64, 64, 3); photos without a face are left out."""
    crops = []
    for photo in photos:
        try:
            image = swapper.read(photo)
            crops.append(swapper.align(image, swapper.find_face(image)).pixels)
        except SwapError as error:
            log.info("%s left out: %s", photo.name, type(error).__name__)
    return np.stack(crops) if crops else np.empty((0, 64, 64, 3), np.uint8)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--people", type=Path, required=True, help="photos of the identities, a folder each")
    parser.add_argument(
        "--skip", type=int, default=449, help="photos of each that training has seen (default 449)"
    )
    parser.add_argument("--sources", type=Path, required=True, help="photos of other people, such as LFW")
    parser.add_argument("--gallery", type=Path, nargs="*", default=[], help="more people to be mistaken for")
    parser.add_argument("--count", type=int, default=64, help="how many sources (default 64)")
    parser.add_argument(
        "--start",
        type=int,
        default=0,
        help="begin with this held-out person: other sources for a last measure",
    )
    parser.add_argument(
        "--others", type=int, default=200, help="how many others in the gallery (default 200)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/metrics.json"), help="JSON; a picture lies beside it"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
