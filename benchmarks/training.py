"""python -m benchmarks.training: images/s of training beside its bare networks and the device's limit."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import training_cases as cases
from benchmarks.machine import facts
from faceswap.alignment import Template
from models.autoencoder import Encoder, EncoderConfig
from models.checkpoint import UNIVERSAL
from models.dataset import centre, load_crops, pictures_below
from models.decoders import Decoder, DecoderConfig
from models.errors import TrainingError
from models.paper import EPOCHS, PHOTOS, RECIPES, PaperEncoder
from models.paper_data import encode
from models.trainer import TrainConfig, Trainer
from models.vgg19 import load_imagenet

RESULTS = Path(__file__).parent / "results"
CROPS = Path(__file__).parent.parent / "examples" / "people" / "will"
KINDS = ("loop", "bare", "forward")
SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192, 16384)}
"""Sides of the matrices whose product gives the limit; the best one counts."""


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for what could not be measured."""
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        report = measure(options)
    except (TrainingError, OSError) as error:
        sys.stderr.write(f"benchmarks.training: {error}\n")
        return 2
    sys.stdout.write(table(report) + "\n")
    name = re.sub(r"[^a-z0-9]+", "-", str(report["device"]["device"]).lower()).strip("-")
    file: Path = options.out / f"training-{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(f"\nalso in {file.parent.name}/{file.name}\n")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every row once a round, so that a slow minute of the machine hits every row alike."""
    device = torch.device("cuda" if options.device == "auto" and torch.cuda.is_available() else
                          "cpu" if options.device == "auto" else options.device)  # fmt: skip
    crops = load_crops(pictures_below(options.crops))
    rows = _cases(options, crops, device)
    products = cases.Products(device, options.sizes or SIZES[device.type])
    flops = {case.name: cases.flops_per_image(_eager(case)) for case in rows}
    steps = {(case.name, kind): getattr(case, kind)() for case in rows for kind in KINDS}
    for step in steps.values():
        step()  # chooses algorithms, allocates
    rates: dict[tuple[str, str], list[cases.Rate]] = {key: [] for key in steps}
    limits: list[tuple[float, float]] = []
    with tqdm(total=options.rounds * (len(steps) + 1), file=sys.stdout, leave=False) as bar:
        for _ in range(options.rounds):
            limits.append(products.flops(options.seconds / len(products.matrices)))
            bar.update()
            for key, step in steps.items():
                rates[key].append(cases.rate(step, options.seconds, device))
                bar.update()
    limit = (statistics.median(wall for wall, _ in limits), statistics.median(cpu for _, cpu in limits))
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": facts(),
        "device": cases.device_facts(device),
        "torch": str(torch.__version__),
        "precision": str(products.dtype).removeprefix("torch."),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "product_gflops_per_s": round(limit[0] / 1e9, 1),
        "product_gflops_per_cpu_s": round(limit[1] / 1e9, 1),
        "rows": [_row(case, rates, flops[case.name], limit) for case in rows],
    }


def _eager(case: cases.Case) -> cases.Step:
    """What the operations are counted on: a counter sees nothing of a CUDA graph."""
    step = case.bare() if isinstance(case, cases.PaperCase) else case.loop()
    step()  # makes the pools
    return step


def _row(
    case: cases.Case,
    rates: dict[tuple[str, str], list[cases.Rate]],
    flops: float,
    limit: tuple[float, float],
) -> dict[str, Any]:
    """Shares are by wall clock on an accelerator, and by processor time on a CPU that others use too."""
    clock = "images_per_cpu_s" if case.device.type == "cpu" else "images_per_s"
    ceiling = limit[1] if case.device.type == "cpu" else limit[0]
    medians = {kind: cases.medians(rates[case.name, kind]) for kind in KINDS}
    loop, bare, forward = (medians[kind][clock] for kind in KINDS)
    row: dict[str, Any] = {
        "name": case.name,
        "mflop_per_image": round(flops / 1e6, 1),
        **medians,
        "shares_by": "wall clock" if clock == "images_per_s" else "processor time",
        "of_bare": round(loop / bare, 3),
        "of_limit": round(loop * flops / ceiling, 3),
        "bare_of_limit": round(bare * flops / ceiling, 3) if isinstance(case, cases.PaperCase) else None,
        # where an image's time goes; the rest: drawing data, optimiser, guard, and for `best` new variants
        "step": {
            "forward": round(loop / forward, 3),
            "backward": round(loop / bare - loop / forward, 3),
            "rest": round(1 - loop / bare, 3),
        },
    }
    if isinstance(case, cases.PaperCase):
        row["paper_run"] = _paper_run(case, medians["loop"])
    return row


def _paper_run(case: cases.PaperCase, loop: dict[str, float]) -> dict[str, Any]:
    """How long this decoder's whole run in the paper would take here."""
    updates = round(PHOTOS * EPOCHS.get(case.batch, EPOCHS[64]) * RECIPES[case.decoder].share)
    on_cpu = case.device.type == "cpu"
    rate = loop["images_per_cpu_s"] * torch.get_num_threads() if on_cpu else loop["images_per_s"]
    note = ", as if nobody else used the processor" if on_cpu else ""
    return {
        "updates": updates,
        "hours": round(updates / rate / 3600, 3),
        "note": f"extrapolated from the measured rate, not run{note}",
    }


def _cases(options: argparse.Namespace, crops: Tensor, device: torch.device) -> list[cases.Case]:
    rows: list[cases.Case] = []
    if options.decoders:
        encoder = PaperEncoder()
        load_imagenet(encoder.vgg)
        photos = centre(crops)
        encoder.fit_scale(photos.float())
        data = encode(encoder, photos, device)
        rows += [cases.PaperCase(name, batch, data) for name in options.decoders for batch in options.batches]
    if not options.no_best:
        rows.append(cases.BestCase(_best(crops, device)))
    return rows


def _best(crops: Tensor, device: torch.device) -> Trainer:
    """The `best` preset's networks and sizes in the joint stage: everybody and one person."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig())
    load_imagenet(encoder.vgg)
    encoder.fit_scale(centre(crops[:64]).float())
    decoders = {name: Decoder(DecoderConfig()) for name in (UNIVERSAL, "somebody")}
    # the pools' length changes nothing of a step's work, and filling them takes a minute on a CPU
    config = TrainConfig(updates=2**40, general_share=0.0, pool_steps=16)
    return Trainer(config, encoder, decoders, [cases.person(crops)], crops[:0], Template(), device)


def table(report: dict[str, Any]) -> str:
    """The report as text of fixed width."""
    machine, device = report["machine"], report["device"]
    clock = "processor time" if device["device"] == "cpu" else "wall clock"
    lines = [
        f"{device['device']}, {machine['cores']} cores of {machine['processor']}, torch {report['torch']}",
        f"{report['precision']} matrix products: {report['product_gflops_per_s']:,} GFLOP/s by wall clock, "
        f"{report['product_gflops_per_cpu_s']:,} by processor time",
        f"medians of {report['rounds']} interleaved rounds of {report['seconds']:g} s; shares by {clock}",
        "",
        f"{'':34}{'images/s':>10}{'/cpu s':>9}{'of bare':>9}{'of limit':>9}{'MFLOP':>8}{'paper run':>24}",
    ]
    for row in report["rows"]:
        run = row.get("paper_run")
        hours = f"{run['hours']:.2f} h (extrapolated)" if run else "-"
        lines.append(
            f"{row['name']:34}{row['loop']['images_per_s']:10,.1f}{row['loop']['images_per_cpu_s']:9,.1f}"
            f"{row['of_bare']:9.2f}{row['of_limit']:9.2f}"
            f"{row['mflop_per_image']:8,.0f}{hours:>24}"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    add = parser.add_argument
    add("--decoders", nargs="*", choices=list(RECIPES), default=list(RECIPES), help="of the paper preset")
    add("--batches", nargs="+", type=int, default=list(EPOCHS), help="of the paper preset (64 and 32)")
    add("--no-best", action="store_true", help="leave out the best preset")
    add("--crops", type=Path, default=CROPS, help="80x80 crops to train on (default: the example's)")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--threads", type=int, help="CPU threads")
    add("--rounds", type=int, default=5, help="rounds; medians are taken over them")
    add("--seconds", type=float, default=2.0, help="length of each measurement")
    add("--sizes", type=int, nargs="+", help="sides of the matrices for the limit")
    add("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
