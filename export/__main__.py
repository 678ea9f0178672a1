"""python -m export CHECKPOINT --out BUNDLE: trained networks to a bundle that the service loads."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from export.consent import add_options, fill
from export.exporter import Request, export, read_metrics
from export.quantize import quantize, read_crops, read_judge
from faceswap.bundle import Bundle
from faceswap.errors import SwapError
from models.checkpoint import Checkpoint
from models.dataset import read_record
from models.errors import TrainingError

log = logging.getLogger("export")


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        checkpoint = Checkpoint.load(options.checkpoint)
        if options.records:
            given = {name: read_record(options.records / name) for name in checkpoint.identities}
            checkpoint.records |= {name: record for name, record in given.items() if record}
        fill(checkpoint.records, options.only or checkpoint.identities, options)
        metrics = read_metrics(options.metrics) if options.metrics else None
        request = Request(options.name, options.only, options.replace, metrics, options.note)
        bundle = export(checkpoint, options.out, request)
        if options.crops:
            bundle = quantize(options.out, read_crops(options.crops, options.gate), judge=read_judge())
    except (TrainingError, SwapError, OSError) as error:
        sys.stderr.write(f"export: {error}\n")
        return 2
    _report(bundle)
    return 0


def _report(bundle: Bundle) -> None:
    manifest = bundle.manifest
    log.info("bundle %s: %.1f MB", bundle.folder, sum(entry.bytes for entry in manifest.files) / 1e6)
    log.info("  %-20s %5.1f MB, error %.2g of the latent", "encoder", manifest.encoder.graph.bytes / 1e6,
             manifest.encoder.parity.max_error)  # fmt: skip
    if manifest.universal is not None:
        log.info("  %-20s %5.1f MB, for enrolment only", "universal", manifest.universal.bytes / 1e6)
    for entry in manifest.identities:
        log.info("  %-20s %5.1f MB, error %g grey levels at most", entry.name, entry.decoder.bytes / 1e6,
                 entry.parity.max_error)  # fmt: skip
    without = [entry.name for entry in manifest.identities if not entry.variants]
    if without:
        names = ", ".join(without)
        log.info("  %s: fp32 only; int8 and fp16 graphs are made by: python -m export.quantize", names)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a run's folder, or its checkpoint.pt")
    parser.add_argument(
        "--out", type=Path, required=True, help="the bundle's folder; an existing one is added to"
    )
    parser.add_argument("--name", help="the bundle's name (default: what it had, or the folder's)")
    parser.add_argument("--only", nargs="+", metavar="IDENTITY", help="export these identities only")
    parser.add_argument("--note", help="what a reader of the manifest must know about the training")
    parser.add_argument("--replace", action="store_true", help="throw the old bundle in --out away")
    parser.add_argument(
        "--records", type=Path, help="folder with IDENTITY/identity.json, if it changed since"
    )
    parser.add_argument(
        "--metrics", type=Path, help="metrics.json of python -m models.evaluate, for the manifest"
    )
    parser.add_argument(
        "--crops",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="crops to calibrate graphs of lower precision with",
    )
    parser.add_argument(
        "--gate", type=Path, nargs="+", metavar="FOLDER", help="crops to measure those graphs with"
    )
    add_options(parser)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
