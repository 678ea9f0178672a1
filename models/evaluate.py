"""python -m models.evaluate MODEL: how good the swaps are, on people and photos that training never saw.

MODEL is a bundle, a run's folder, a checkpoint, or the peer's checkpoint. Writes OUT (JSON), and beside it
the tables (.md), a chart against the gates (-chart.png) and a sheet of sources and swaps (.png).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from faceswap.alignment import Template
from faceswap.detection import LibFaceDetection
from faceswap.errors import SwapError
from faceswap.precisions import Precision
from models.chart import chart
from models.cost import cost_of
from models.embeddings import Embedder
from models.errors import DataError, TrainingError
from models.evaluation import Columns, Instruments, Ruler, Targets, evaluate, evaluate_peer
from models.gates import Gate, check
from models.groups import evaluate_exposure, evaluate_groups, extremes, read_groups
from models.judge import DlibJudge
from models.metrics import Faces
from models.photos import Choice, PhotoReader, read_sets
from models.previews import sheet
from models.renderers import BundleRenderer, Renderer, open_renderer
from models.report import markdown, summary, table

log = logging.getLogger("models.evaluate")
EXPOSURE_SOURCES = 4
"""Times --count: so many people are looked at for the darkest and brightest quarter."""


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, also where a gate is not passed, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        renderer = open_renderer(options.model, torch.device(options.device), options.precision)
        peer = open_renderer(options.peer, torch.device(options.device)) if options.peer else None
        with Embedder(DlibJudge, options.cache, options.processes) as embedder:
            result, sheets = measure(renderer, peer, embedder, options)
        write(result, sheets, options.out)
    except (TrainingError, SwapError, OSError) as error:
        sys.stderr.write(f"models.evaluate: {error}\n")
        return 2
    log.info("%s", table(result))
    if options.gates:
        log.info("%s\n%s", "\n".join(str(Gate(**g)) for g in result["gates"]), summary(result["gates"]))
    return 0


def measure(
    renderer: Renderer, peer: Renderer | None, embedder: Embedder, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Columns]]:
    """Everything that was asked for, and the sheets by the end of their file's name."""
    if renderer.template.shares != Template().shares:
        log.warning("the bundle's crop template is not the default one; figures are not comparable")
    identities = tuple(options.identities or renderer.identities)
    strangers = sorted(set(identities) - set(renderer.identities))
    if strangers:
        raise DataError(f"{options.model} has no {', '.join(strangers)}, only {renderer.identities}")
    detector = LibFaceDetection()
    reader = PhotoReader(detector, renderer.template)
    choice = Choice(options.sources, options.gallery, options.count, options.start, options.others)
    sets = read_sets(choice, identities, options.people, options.skip, reader)
    instruments, targets = Instruments(embedder, detector), Targets.of(sets, embedder)
    ruler = Ruler.of(instruments, sets.sources, targets)
    result, columns = evaluate(renderer, sets, ruler)
    sheets = {".png": columns}
    result |= {"model": options.model.name, "first_source": options.start, "cost": cost_of(renderer)}
    if isinstance(renderer, BundleRenderer):
        result["precision"] = renderer.swapper.precision.value
    if peer is not None:
        result["peer"], sheets["-peer.png"] = evaluate_peer(peer, sets, ruler)
    if options.bright_dark:
        faces = _dark_and_bright(choice, identities, reader)
        result["exposure"] = evaluate_exposure(renderer, Ruler.of(instruments, faces, targets, "exposures"))
    if options.groups:
        groups = read_groups(options.groups, options.group_count, reader)
        result["groups"] = evaluate_groups(
            renderer, groups, Ruler.of(instruments, groups.faces, targets, "groups")
        )
    if options.gates:
        result["gates"] = check(result, options.real_person)
    return result, sheets


def _dark_and_bright(choice: Choice, identities: tuple[str, ...], reader: PhotoReader) -> Faces:
    """The extremes of EXPOSURE_SOURCES times as many sources: half of them dark, half bright."""
    _, _, candidates = choice.people(identities)
    wanted = EXPOSURE_SOURCES * choice.count
    return extremes(reader.read(candidates[:: max(1, len(candidates) // wanted)][:wanted]))


def write(result: dict[str, Any], sheets: dict[str, Columns], out: Path) -> None:
    """JSON, tables, chart and sheets, side by side."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(out)
    out.with_suffix(".md").write_text(markdown(result))
    chart(result).save(out.with_name(out.stem + "-chart.png"))
    for ending, columns in sheets.items():
        sheet(columns).save(out.with_name(out.stem + ending))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a bundle, a run's folder, a checkpoint")
    add("--people", type=Path, nargs="+", required=True, help="photos of the identities, a folder each")
    add("--skip", type=int, default=449, help="photos of each that training has seen (default 449)")
    add("--identities", nargs="+", help="measure only these (default: all)")
    add("--sources", type=Path, required=True, help="photos of other people, such as LFW")
    add("--gallery", type=Path, nargs="*", default=[], help="more people to be mistaken for")
    add("--count", type=int, default=64, help="how many sources (default 64)")
    add(
        "--start",
        type=int,
        default=0,
        help="begin with this held-out person: other sources for a last measure",
    )
    add("--others", type=int, default=200, help="how many others in the gallery (default 200)")
    add("--groups", type=Path, help="photos named as in UTKFace: figures by gender and race")
    add("--group-count", type=int, default=40, help="sources of each of the ten groups (default 40)")
    add("--bright-dark", action="store_true", help="figures on the darkest and brightest sources")
    add("--peer", type=Path, help="a checkpoint of models.peer_training, measured in the same run")
    add("--gates", action="store_true", help="print every gate of models.gates, passed or not")
    add("--real-person", nargs="*", default=[], help="identities held to the gates of a real person")
    add("--cache", type=Path, help="file of embeddings of real photos, by content; may be deleted")
    add("--processes", type=int, help="how many judge at once (default: one a core)")
    add("--threads", type=int, help="CPU threads of torch")
    add("--device", default="cpu", help="of a checkpoint's networks: cpu or cuda; the judge has the CPU")
    precisions = [Precision.AUTO, Precision.FP32, Precision.INT8]
    add(
        "--precision",
        choices=precisions,
        default=Precision.AUTO,
        help="of a bundle's graphs; auto: what a CPU serves, int8 where the bundle has it",
    )
    add("--out", type=Path, default=Path("runs/metrics.json"), help="JSON; the rest lies beside it")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
