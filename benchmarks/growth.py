"""python -m benchmarks.growth: how rate and latency change with connections, photos, batches and identities.

`python -m benchmarks.identities` tells more of a thousand identities: cold and warm swaps, memory, a reload.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import crowd
from benchmarks.bare import Bare
from benchmarks.load import Answers, generator
from benchmarks.machine import facts
from benchmarks.pictures import Upload, photo, ready_crop
from benchmarks.plots import CURVES, draw
from benchmarks.progress import Step, steps
from benchmarks.report import Row, median
from benchmarks.rounds import drive, form
from benchmarks.server import Server, serving
from benchmarks.serving import RESULTS
from benchmarks.subject import Subject
from benchmarks.visitors import Visit, visits, zipf
from faceswap.bundle import Bundle
from faceswap.errors import SwapError
from faceswap.sessions import Device, available_cores

CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIDES = (64, 128, 250, 500, 1000, 2000, 4000)
"""Longer sides in pixels of a 4:3 photo: the last has 12 Mpx."""
BATCHES = (1, 2, 4, 8, 16, 32, 64)
IDENTITIES = (1, 10, 100, 1000)
"""Of a crowd in fp32, asked for by Zipf's law."""
PHOTO_CONNECTIONS = 8
FILL = 3.0
"""For so many measurements the crowd is asked before the first: what is asked for often is then in memory."""


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 if a request failed, or 2 after one clear line for what could not be measured."""
    options = _parser().parse_args(arguments)
    try:
        report = measure(options)
        stem = f"growth-{report['provider'].removesuffix('ExecutionProvider').lower()}"
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
        if options.plots:
            draw(report, options.plots)
    except (SwapError, OSError, RuntimeError, ImportError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"benchmarks.growth: {error}\n")
        return 2
    print(table(report))
    print(f"\nalso in {options.out.name}/{stem}.json")
    return 1 if any(point["errors"] for curve in CURVES for point in report[curve]) else 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every point once a round, so that a slow minute of the machine hits every point alike."""
    subject = Subject(options.bundle, options.device, options.precision)
    identity = subject.identity()
    bare = Bare(subject, identity, available_cores())
    crop = ready_crop(subject.open(), identity)
    crops = {c: Row(crop.name, c, "service") for c in options.connections}
    photos = {side: Row(f"{side} px", PHOTO_CONNECTIONS, "service") for side in options.sides}
    batches = {batch: Row(f"batch {batch}") for batch in options.batches}
    room = {"FACESWAPD_QUEUE_IMAGES": str(max(64, *options.connections))}
    points_a_round = len(batches) + len(crops) + len(photos) + len(options.identities)
    with steps(options.rounds * points_a_round) as step:
        for _ in range(options.rounds):
            for batch, row in batches.items():
                row.add_bare(bare.networks(batch, options.seconds))
                step(f"batch {batch}")
            with serving(options.bundle, options.device, more={**subject.variables(), **room}) as server:
                for c, row in crops.items():
                    _post(row, server, crop, c, options.seconds)
                    step(f"c={c}")
                for side, row in photos.items():
                    _post(row, server, photo(identity, side), PHOTO_CONNECTIONS, options.seconds)
                    step(f"{side} px")
        people = _by_identities(options, crop, step)
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": facts(),
        "provider": bare.provider,
        "precision": options.precision,
        "load": generator(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "connections": points(crops),
        "photo_side": points(photos),
        "batch": points(batches),
        "identities": points(people),
    }


def _by_identities(options: argparse.Namespace, crop: Upload, step: Step) -> dict[int, Row]:
    """A service after another: a thousand decoders are 4 GB of files."""
    bundle = Bundle.open(options.bundle)
    rows = {count: Row(f"{count} identities", PHOTO_CONNECTIONS, "service") for count in options.identities}
    for count, row in rows.items():
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            crowd.write(bundle, Path(folder), count)
            targets = zipf([crowd.name(number) for number in range(count)], 1.0)
            with serving(Path(folder), options.device, more={"FACESWAPD_PRECISION": "fp32"}) as server:
                visits(server.port, crop.picture, targets, PHOTO_CONNECTIONS, FILL * options.seconds)
                for _ in range(options.rounds):
                    found = visits(server.port, crop.picture, targets, PHOTO_CONNECTIONS, options.seconds)
                    row.add(_answers(found))
                    step(row.name)
    return rows


def _answers(found: Sequence[Visit]) -> Answers:
    good = [visit.seconds for visit in found if visit.good]
    wall_s = max(visit.ended for visit in found) - min(visit.began for visit in found)
    return Answers(good, len(found) - len(good), wall_s)


def _post(row: Row, server: Server, upload: Upload, concurrency: int, seconds: float) -> None:
    drive(row, server, form(server, upload), concurrency, seconds)


def points(rows: dict[int, Row]) -> list[dict[str, Any]]:
    """JSON-ready medians by what grows, the key of `rows`."""
    return [
        {
            "at": at,
            "swaps_per_s": median(row.rates, 2),
            "p50_ms": median(row.p50_ms, 2),
            "p99_ms": median(row.p99_ms, 2),
            "cpu_ms": median(row.cpu_ms, 2),
            "errors": row.errors,
        }
        for at, row in rows.items()
    ]


def table(report: dict[str, Any]) -> str:
    """Every point as a line of text."""
    lines = []
    for key, curve in CURVES.items():
        lines += ["", f"{curve.title:44}{'swaps/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'errors':>8}"]
        for point in report[key]:
            times = "".join(f"{'-' if point[k] is None else point[k]:>10}" for k in ("p50_ms", "p99_ms"))
            lines.append(f"{point['at']:<44}{point['swaps_per_s']:>10}{times}{point['errors']:>8}")
    return "\n".join(lines[1:])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--device", type=Device, choices=list(Device), default=Device.AUTO)
    parser.add_argument("--precision", help="of the service's graphs; by default the library's own choice")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are taken over them")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="of the photos, px")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="of the bare graphs")
    parser.add_argument("--identities", type=int, nargs="+", default=IDENTITIES)
    parser.add_argument("--scratch", type=Path, help="folder for their bundles: 4 GB for 1,000 identities")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw there too (needs matplotlib)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
