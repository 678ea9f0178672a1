"""python -m benchmarks.serving: swaps/s over HTTP beside a bare onnxruntime loop on the same machine."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from benchmarks.bare import BareLoop
from benchmarks.load import Answers, generator, multipart, send
from benchmarks.machine import facts
from benchmarks.report import Row, median, medians, table
from benchmarks.server import HOST, Server, serving
from faceswap.bundle import Bundle
from faceswap.errors import SwapError
from faceswap.faces import Pixels
from faceswap.sessions import Device, available_cores
from faceswap.swapper import Swapper

RESULTS = Path(__file__).parent / "results"
PHOTO = Path(__file__).parent.parent / "examples" / "a.jpg"
PHOTO_SIDE = 250
"""Longer side in pixels of the photo that is posted: that of LFW's photos."""
BATCHES = (1, 8)


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture to post and how to ask for the swap."""

    name: str
    body: bytes
    query: str


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 if a request failed, or 2 after one clear line for what could not be measured."""
    options = _parser().parse_args(arguments)
    try:
        report = measure(options)
    except (SwapError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"benchmarks.serving: {error}\n")
        return 2
    print(table(report))
    provider = str(report["provider"]).removesuffix("ExecutionProvider").lower()
    file: Path = options.out / f"serving-{provider}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nalso in {file.parent.name}/{file.name}")
    return 1 if any(row["errors"] for row in report["rows"]) else 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rows once a round, so that a slow minute of the machine hits every row alike."""
    bundle = Bundle.open(options.bundle)
    identity = bundle.manifest.identities[0].name
    bare = BareLoop(bundle, identity, options.device, available_cores())
    uploads = _uploads(options.bundle, identity)
    bare_rows = {batch: Row(f"bare onnxruntime, batch {batch}") for batch in BATCHES}
    http_rows = {(u, c): Row(u.name, c) for u in uploads for c in options.concurrency}
    starts: list[float] = []
    memory: list[tuple[float | None, float | None]] = []
    for _ in range(options.rounds):
        for batch, row in bare_rows.items():
            row.rates.append(bare.rate(batch, options.seconds))
        with serving(options.bundle, options.device) as server:
            starts.append(server.start_s)
            idle = server.memory_mib()
            for (upload, concurrency), row in http_rows.items():
                row.add(_post(server, upload, concurrency, options.seconds))
            memory.append((idle, server.memory_mib(peak=True)))
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": facts(),
        "bundle": bundle.manifest.name,
        "encoder_sha256": bundle.manifest.encoder.graph.sha256,
        "identity": identity,
        "provider": bare.provider,
        "load": generator(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "start_s": median(starts, 2),
        "memory_idle_mib": median([mib for mib, _ in memory if mib], 1),
        "memory_peak_mib": median([mib for _, mib in memory if mib], 1),
        "rows": medians([*bare_rows.values(), *http_rows.values()]),
    }


def _post(server: Server, upload: Upload, concurrency: int, seconds: float) -> Answers:
    """About `seconds` of load, after a short run that warms up and tells how many requests that is."""
    url = f"http://{HOST}:{server.port}/swap?{upload.query}"
    first = send(url, upload.body, concurrency, max(8, 2 * concurrency))
    return send(url, upload.body, concurrency, max(concurrency, 2, round(first.rate * seconds)))


def _uploads(bundle: Path, identity: str) -> list[Upload]:
    """A ready crop, which needs no detection, and a small photograph, which does."""
    swapper = Swapper.open(bundle, Device.CPU)
    image = swapper.read(PHOTO)
    crop = swapper.align(image, swapper.find_face(image))
    photo = PillowImage.fromarray(image.pixels)
    photo.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=95)
    return [
        Upload("64 px crop", multipart(_png(crop.pixels)), f"target={identity}&crop=none"),
        Upload(f"{PHOTO_SIDE} px photo", multipart(file.getvalue()), f"target={identity}"),
    ]


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--device", type=Device, choices=list(Device), default=Device.AUTO)
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are taken over them")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32], help="open connections")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
