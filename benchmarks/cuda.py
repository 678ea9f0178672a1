"""python -m benchmarks.cuda: the CUDA path by batch size, precision, CUDA graphs and layout, and over HTTP.

Needs an NVIDIA card and the GPU wheel of onnxruntime; refuses in one line where there is none.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.bare import rate_of
from benchmarks.card import card
from benchmarks.goals import Goal, table
from benchmarks.load import BOUNDARY, FORM, Post, generator, send_for
from benchmarks.machine import facts
from benchmarks.pictures import Upload, ready_crop
from benchmarks.progress import each
from benchmarks.report import Row, median, medians
from benchmarks.rounds import drive, form
from benchmarks.server import HOST, Server, serving
from faceswap.bundle import Bundle
from faceswap.cuda import CudaOptions
from faceswap.errors import DeviceError, SwapError
from faceswap.sessions import Device
from faceswap.swapper import Swapper

RESULTS = Path(__file__).parent / "results"
FILE = "serving-cuda.json"
BATCHES_C = 4
"""Batches over HTTP at once."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the networks."""

    precision: str
    graphs: bool = False
    channels_last: bool = False

    @property
    def name(self) -> str:
        more = [" CUDA graphs"] * self.graphs + [" channels last"] * self.channels_last
        return self.precision + ",".join(["", *more])

    def options(self, most: int) -> CudaOptions:
        return CudaOptions(most, self.graphs, None, self.channels_last)

    def variables(self) -> dict[str, str]:
        """The same for the service."""
        return {
            "FACESWAPD_PRECISION": self.precision,
            "FACESWAPD_CUDA_GRAPHS": str(self.graphs),
            "FACESWAPD_CUDA_CHANNELS_LAST": str(self.channels_last),
        }


VARIANTS = [
    Variant(precision, graphs, channels_last)
    for precision in ("fp16", "fp32")
    for channels_last in (False, True)
    for graphs in (False, True)
]

Open = Callable[[Variant], Swapper]
Serve = Callable[[Variant], AbstractContextManager[Server]]


@dataclass(slots=True)
class Measured:
    """Of one variant, one figure a round; by batch size where it depends on that."""

    faces_per_s: dict[int, list[float]] = field(default_factory=dict)
    encoder_ms: dict[int, list[float]] = field(default_factory=dict)
    ready_s: float | None = None

    def as_json(self, variant: Variant) -> dict[str, Any]:
        return {
            "variant": variant.name,
            "precision": variant.precision,
            "cuda_graphs": variant.graphs,
            "channels_last": variant.channels_last,
            "ready_s": self.ready_s,
            "faces_per_s": {str(size): median(each, 1) for size, each in self.faces_per_s.items()},
            "encoder_ms": {str(size): median(each, 3) for size, each in self.encoder_ms.items()},
        }


class Bench:
    """The whole measurement; `open_swapper` and `serve` are handed in: its logic runs without a card too."""

    def __init__(self, options: argparse.Namespace, identity: str, open_swapper: Open, serve: Serve) -> None:
        self.options = options
        self.identity = identity
        self._open = open_swapper
        self._serve = serve
        self.measured: dict[Variant, Measured] = {}
        self.failed: dict[str, str] = {}
        self.rows: list[Row] = []
        self.batch_rates: dict[str, list[float]] = {}

    def bare(self, variants: Sequence[Variant] = tuple(VARIANTS)) -> None:
        """Each variant alone on the card, by batch size; one that cannot run is named and left out."""
        for variant in each(variants, len(variants), "variant"):
            try:
                swapper = self._open(variant)
                self._loops(variant, swapper)
            except DeviceError as error:
                self.failed[variant.name] = str(error)
                if not self.measured:
                    raise  # the first one: there is no CUDA
            except SwapError as error:
                self.failed[variant.name] = str(error)
        if not self.measured:
            raise RuntimeError(f"nothing could be measured: {'; '.join(self.failed.values())}")

    def _loops(self, variant: Variant, swapper: Swapper) -> None:
        found = Measured()
        swapper.warm_up()
        for _ in range(self.options.rounds):
            for size in variant.options(self.options.max_batch).buckets:
                rate = rate_of(swapper, self.identity, size, self.options.seconds)
                found.faces_per_s.setdefault(size, []).append(rate.swaps_per_s)
                alone = rate_of(swapper, None, size, self.options.seconds / 2)
                found.encoder_ms.setdefault(size, []).append(1000 * size / alone.swaps_per_s)
        self.measured[variant] = found

    @property
    def best(self) -> Variant:
        """The fastest at the largest batch."""
        return max(self.measured, key=lambda variant: max(_medians(self.measured[variant]).values()))

    def http(self, upload: Upload) -> None:
        """Single swaps and batches of the best variant, and of plain fp32 beside it."""
        plain = Variant("fp32")
        for variant in dict.fromkeys([self.best, plain]):
            with self._serve(variant) as server:
                if variant in self.measured:
                    self.measured[variant].ready_s = round(server.start_s, 2)
                for concurrency in self.options.concurrency:
                    row = Row(f"{upload.name}, {variant.name}", concurrency, "service")
                    for _ in range(self.options.rounds):
                        drive(row, server, form(server, upload), concurrency, self.options.seconds)
                    self.rows.append(row)
                self.batch_rates[variant.name] = [
                    batch_rate(server, upload, self.options.photos, self.options.seconds)
                    for _ in range(self.options.rounds)
                ]

    def report(self) -> dict[str, Any]:
        ceiling = Row("bare onnxruntime, best batch", None, "bare")
        ceiling.rates = [max(_medians(self.measured[self.best]).values())]
        manifest = Bundle.open(self.options.bundle).manifest
        report = {
            "measured": datetime.now(UTC).date().isoformat(),
            "machine": facts(),
            "card": card(),
            "bundle": manifest.name,
            "encoder_sha256": manifest.encoder.graph.sha256,
            "identity": self.identity,
            "load": generator(),
            "rounds": self.options.rounds,
            "seconds": self.options.seconds,
            "best": self.best.name,
            "failed": self.failed,
            "variants": [found.as_json(variant) for variant, found in self.measured.items()],
            "rows": medians([ceiling, *self.rows]),
            "batch_faces_per_s": {name: median(each, 1) for name, each in self.batch_rates.items()},
        }
        report["goals"] = [goal.as_json() for goal in goals(report)]
        return report


def _medians(found: Measured) -> dict[int, float]:
    return {size: statistics.median(each) for size, each in found.faces_per_s.items()}


def batch_rate(server: Server, upload: Upload, photos: int, seconds: float) -> float:
    """Faces a second through POST /swap/batch, a few requests of many photos each at a time."""
    url = f"http://{HOST}:{server.port}/swap/batch?{upload.query}"
    _, answers = send_for(Post(url, batch_of(upload.picture, photos), FORM), BATCHES_C, seconds)
    return answers.rate * photos


def batch_of(picture: bytes, count: int) -> bytes:
    """A form with `count` files."""
    parts = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{number}"\r\n\r\n'.encode()
        + picture
        + b"\r\n"
        for number in range(count)
    )
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def goals(report: dict[str, Any]) -> list[Goal]:
    """Of an H100 with 16 cores; the share of the bare loop is shown without a bound that was set."""
    best = [row for row in report["rows"] if row["kind"] == "service" and report["best"] in row["name"]]
    rates = [row["swaps_per_s"] for row in best if row["swaps_per_s"] is not None]
    alone = [row["p50_ms"] for row in best if row["concurrency"] == 1 and row["p50_ms"] is not None]
    batches = report["batch_faces_per_s"].get(report["best"])
    return [
        Goal("HTTP swaps/s, 64 px photos", max(rates, default=None), 5000),
        Goal("p50 of one client", min(alone, default=None), 3.0, False, " ms"),
        Goal("faces/s of batches", batches, 20_000),
    ]


def text(report: dict[str, Any]) -> str:
    """For people: faces/s by batch size of every variant, then HTTP, then the goals."""
    known = report["card"]
    sizes = list(report["variants"][0]["faces_per_s"])
    lines = [
        f"{known['name']}, driver {known['driver_version']}; bundle {report['bundle']}",
        "",
        f"{'bare faces/s by batch':34}" + "".join(f"{size:>9}" for size in sizes),
    ]
    for found in report["variants"]:
        cells = (f"{found['faces_per_s'][size] or 0:9.0f}" for size in sizes)
        lines.append(f"{found['variant']:34}" + "".join(cells))
    lines += [f"{name}: not measured, {why}" for name, why in report["failed"].items()]
    lines += ["", f"{'over HTTP':44}{'c':>5}{'swaps/s':>9}{'of bare':>9}{'p50 ms':>9}{'p99 ms':>9}"]
    for row in report["rows"]:
        if row["kind"] == "service":
            cells = (f"{row[key] or 0:9.2f}" for key in ("swaps_per_s", "of_bare", "p50_ms", "p99_ms"))
            lines.append(f"{row['name']:44}{row['concurrency']:>5}" + "".join(cells))
    lines += [f"batches, {name}: {rate} faces/s" for name, rate in report["batch_faces_per_s"].items()]
    return "\n".join([*lines, "", table(goals(report))])


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 if the service failed a request, or 2 after one line for what could not be measured."""
    options = _parser().parse_args(arguments)
    try:
        report = measure(options)
    except (SwapError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"benchmarks.cuda: {error}\n")
        return 2
    sys.stdout.write(text(report) + "\n")
    file: Path = options.out / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(row["errors"] for row in report["rows"]) else 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    identity = Bundle.open(options.bundle).manifest.identities[0].name

    def opened(variant: Variant) -> Swapper:
        return Swapper.open(
            options.bundle, Device.CUDA, 1, variant.precision, cuda=variant.options(options.max_batch)
        )

    @contextmanager
    def served(variant: Variant) -> Iterator[Server]:
        room = max(4 * options.max_batch, *options.concurrency)
        sizes = {"FACESWAPD_QUEUE_IMAGES": str(room), "FACESWAPD_MAX_BATCH": str(options.max_batch)}
        more = {**variant.variables(), **sizes}
        with serving(options.bundle, Device.CUDA.value, more=more) as server:
            yield server

    bench = Bench(options, identity, opened, served)
    bench.bare()
    bench.http(ready_crop(opened(bench.best), identity))
    return bench.report()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are taken over them")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each measurement")
    parser.add_argument("--max-batch", type=int, default=CudaOptions().max_batch, help="largest batch")
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=[1, 8, 32, 128], help="open connections"
    )
    parser.add_argument("--photos", type=int, default=100, help="of one batch over HTTP")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
