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
    except (TrainingError, SwapError, OSError) as error:
        sys.stderr.write(f"models.evaluate: {error}\n")
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    sheet(picture).save(options.out.with_suffix(".png"))
    log.info("%s", table(result))
    return 0


def evaluate(swapper: Swapper, sets: Sets, judge: Judge) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """All metrics, and the columns of a sheet: the sources, then each identity's answers.

    The gallery for top-1 is one mean embedding per person: the identities by half of their unseen
    photos, the sources themselves, and the others. The ends of the scale, a copy of the source and
    a real unseen photo of the target, are measured the same way, with the other half.
    """
    mask = face_mask()
    source_embeddings = embed_all(judge, sets.sources)
    halves = {name: embed_all(judge, crops) for name, crops in sets.unseen.items()}
    centres = [embeddings[::2].mean(axis=0) for embeddings in halves.values()]
    others = [
        embed_all(judge, crops).mean(axis=0) for crops in tqdm(sets.others, unit="person", file=sys.stdout)
    ]
    gallery = np.stack([*centres, *others, *source_embeddings])
    points = m.landmarks(swapper.detector, sets.sources)
    identities, pictures = {}, [torch.from_numpy(sets.sources).permute(0, 3, 1, 2)]
    for number, (name, unseen) in enumerate(sets.unseen.items()):
        real = halves[name][1::2]
        apart = m.all_pairs_distance(real, source_embeddings)

        def measure(faces: m.Faces, number: int = number, apart: float = apart) -> Row:
            embeddings, found = embed_all(judge, faces), m.landmarks(swapper.detector, faces)
            sources = source_embeddings[: len(faces)]
            row = {
                "face_found": float(np.mean([p is not None for p in found])),
                "top1": m.top1(embeddings, gallery, number),
                "d_target": m.mean_distance(embeddings, gallery[number]),
                "leak": apart - m.mean_distance(embeddings, sources),
                "landmark_error": m.landmark_error(points[: len(faces)], found),
                "light": m.light_correlation(sets.sources[: len(faces)], faces, mask),
            }
            return {key: round(v, 4) if math.isfinite(v) else None for key, v in row.items()}

        swaps = _swap(swapper, sets.sources, name)
        decoded = _swap(swapper, unseen, name)
        row: dict[str, Any] = measure(swaps)
        row["ssim"], row["psnr"] = (
            round(m.ssim(decoded, unseen, mask), 4),
            round(m.psnr(decoded, unseen, mask), 2),
        )
        row["copy_of_source"], row["real_photo"] = measure(sets.sources), measure(unseen[1::2][: len(swaps)])
        row["decoder_sha256"] = swapper.bundle.identity(name).decoder.sha256
        identities[name] = row
        pictures.append(torch.from_numpy(swaps).permute(0, 3, 1, 2))
    sizes = {"sources": len(sets.sources), "gallery": len(gallery),
             "unseen": {name: len(crops) for name, crops in sets.unseen.items()}}  # fmt: skip
    return {"judge": "dlib ResNet-128 at 64x64", **sizes, "identities": identities}, pictures


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
