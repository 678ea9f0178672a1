"""python -m export.quantize BUNDLE --crops FOLDER...: graphs of lower precision beside a bundle's own.

Each is a small file that borrows the weights of the fp32 graph. The service takes it where its faces are
like those of fp32: the gate's figures go into the manifest, also of what failed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from export.bundle import BundleWriter, ExportError, now
from export.gate import Jury, gallery, worst
from export.lock import locked
from export.variants import Made, Studio
from faceswap.bundle import Bundle, EncoderEntry, Gate, IdentityEntry, Manifest, Variant
from faceswap.errors import SwapError
from faceswap.faces import Pixels
from faceswap.precisions import Precision
from faceswap.sessions import Device
from models.dataset import centre, load_crops, pictures_below
from models.errors import DataError, TrainingError
from models.judge import DlibJudge, Judge

COUNT = 128
"""Crops to calibrate with, and as many to measure with."""
GALLERY = 64
PRECISIONS = (Precision.INT8, Precision.FP16)
HELD_BACK = 4
"""Where no other crops are given for the gate, every fourth is kept from the calibration."""

Entry = TypeVar("Entry", EncoderEntry, IdentityEntry)

log = logging.getLogger("export")


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """(N, 64, 64, 3) uint8 RGB to calibrate with and others to measure with, and what they are called."""

    calibration: Pixels
    gate: Pixels
    calibrated_on: str = ""
    gated_on: str = ""


def read_crops(folders: list[Path], gate: list[Path] | None = None, count: int = COUNT) -> Crops:
    """`count` crops of each kind, evenly out of all; DataError if there are too few."""
    files = [path for folder in folders for path in pictures_below(folder)]
    if gate:
        held = [path for folder in gate for path in pictures_below(folder)]
        held = [path for path in held if path not in set(files)]
    else:
        held, files = files[::HELD_BACK], [p for i, p in enumerate(files) if i % HELD_BACK]
    files, held = _spread(files, count), _spread(held, count)
    if min(len(files), len(held)) < 2:
        raise DataError(
            "a variant needs at least 8 crops; make some with: python -m models.crop PHOTOS --out DIR"
        )
    return Crops(
        _pixels(load_crops(files)),
        _pixels(load_crops(held)),
        f"{len(files)} crops of {_names(folders)}",
        f"{len(held)} other crops of {_names(gate or folders)}",
    )


def quantize(
    folder: Path,
    crops: Crops,
    precisions: Collection[Precision] = PRECISIONS,
    judge: Judge | None = None,
    device: Device = Device.CPU,
) -> Bundle:
    """Adds the variants to the bundle in `folder`, which stays as it was if anything fails."""
    with locked(folder):
        writer = BundleWriter(folder)
        if writer.old is None:
            raise ExportError(f"there is no bundle in {folder}; make it with: python -m export")
        manifest = writer.old
        with logging_redirect_tqdm():
            for precision in precisions:
                manifest = _with_variants(manifest, writer, _Task(folder, crops, precision, judge, device))
        return writer.commit(manifest.model_copy(update={"created": now()}))


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    folder: Path
    crops: Crops
    precision: Precision
    judge: Judge | None
    device: Device = field(default=Device.CPU)


def _with_variants(manifest: Manifest, writer: BundleWriter, task: _Task) -> Manifest:
    studio = Studio(Bundle(task.folder, manifest), task.precision, task.crops.calibration, task.device)
    jury = _jury(studio, task)
    log.info("%s graphs, %s", task.precision, task.crops.calibrated_on)
    total = 1 + len(manifest.identities)
    steps = tqdm(total=total, desc=task.precision.value, unit="graph", disable=None, leave=False)
    encoder = studio.encoder()
    true = {name: studio.fp32(name, task.crops.gate) for name in jury.names}
    gates = [jury.gate(name, studio.drawn(name, task.crops.gate), true[name]) for name in jury.names]
    entry = _entry(writer, "encoder", task, encoder, worst(gates))
    steps.update()
    entries = []
    for identity in manifest.identities:
        graph = studio.decoder(identity.name)
        gate = jury.gate(identity.name, studio.drawn(identity.name, task.crops.gate), true[identity.name])
        variant = _entry(writer, f"decoders/{identity.name}", task, graph, gate)
        entries.append(_added(identity, task.precision, variant))
        steps.update()
    steps.close()
    news = {"encoder": _added(manifest.encoder, task.precision, entry), "identities": entries}
    return manifest.model_copy(update=news)


def _jury(studio: Studio, task: _Task) -> Jury:
    names = [entry.name for entry in studio.bundle.manifest.identities]
    known = None
    if task.judge is not None:
        few = task.crops.calibration[:: max(1, len(task.crops.calibration) // GALLERY)]
        swaps = {name: studio.fp32(name, few) for name in names}
        known = gallery(task.judge, swaps, task.crops.gate[:GALLERY])
    return Jury(names, task.crops.gated_on, studio.provider, task.judge, known, studio.emulates)


def _entry(writer: BundleWriter, stem: str, task: _Task, made: Made, gate: Gate) -> Variant:
    data, in_float = made
    file = writer.add(f"{stem}-{task.precision}", ".onnx", data)
    log.info(
        "  %-20s %4.0f kB, SSIM %.4f, error %.2f, top-1 %s of %s: %s",
        stem, len(data) / 1e3, gate.ssim, gate.error, gate.top1, gate.top1_fp32,
        "passed" if gate.passed else "FAILED",
    )  # fmt: skip
    return Variant(graph=file, gate=gate, in_float=in_float, calibrated_on=task.crops.calibrated_on)


def _added(entry: Entry, precision: Precision, variant: Variant) -> Entry:
    return entry.model_copy(update={"variants": {**entry.variants, precision.value: variant}})


def _spread(files: list[Path], count: int) -> list[Path]:
    return [files[int(i)] for i in np.linspace(0, len(files) - 1, min(count, len(files)))] if files else []


def _pixels(crops: Tensor) -> Pixels:
    return np.ascontiguousarray(centre(crops).permute(0, 2, 3, 1).numpy())


def _names(folders: list[Path]) -> str:
    return ", ".join(folder.resolve().name for folder in folders)


def read_judge() -> Judge | None:
    """None, and a word about it, where dlib is not installed."""
    try:
        return DlibJudge()
    except DataError as error:
        log.info("gates without a judge's top-1: %s", error)
        return None


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, also where a gate is not passed, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        crops = read_crops(options.crops, options.gate, options.count)
        judge = None if options.no_judge else read_judge()
        quantize(
            options.bundle, crops, [Precision(p) for p in options.precisions], judge, Device(options.device)
        )
    except (TrainingError, SwapError, OSError) as error:
        sys.stderr.write(f"export.quantize: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export.quantize", description=__doc__)
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument(
        "--crops", type=Path, nargs="+", required=True, metavar="FOLDER", help="80x80 crops to calibrate with"
    )
    parser.add_argument(
        "--gate", type=Path, nargs="+", metavar="FOLDER", help="crops to measure with (default: a quarter)"
    )
    parser.add_argument("--count", type=int, default=COUNT, help="how many of each (default: %(default)s)")
    parser.add_argument("--precisions", nargs="+", choices=[*PRECISIONS], default=[*PRECISIONS])
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="where gates are measured; fp16's on a CPU by arithmetic that rounds every result as CUDA does",
    )
    parser.add_argument("--no-judge", action="store_true", help="leave the judge's top-1 out")
    parser.add_argument("--threads", type=int, help="of torch and onnxruntime")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
