"""python -m benchmarks.stream: frames per second and latency of WS /stream, fed like by a camera."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import statistics
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from benchmarks.machine import facts
from benchmarks.progress import each
from benchmarks.server import HOST, serving
from faceswap.bundle import Bundle
from faceswap.errors import SwapError
from faceswap.sessions import Device

RESULTS = Path(__file__).parent / "results"
PHOTO = Path(__file__).parent.parent / "examples" / "a.jpg"
ANSWER_LIMIT_S = 10.0
SWAY = 60
"""Frames until the face is where it began: two seconds at 30 frames a second."""


@dataclass(slots=True)
class Tally:
    """What came of the frames: milliseconds from sending to answer, the service's own by step, problems."""

    sent: int = 0
    dropped: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    steps_ms: dict[str, list[float]] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    received_bytes: int = 0
    wall_s: float = 0.0


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 if a frame had a problem, or 2 after one clear line for what could not be measured."""
    options = _parser().parse_args(arguments)
    try:
        report = measure(options)
    except (SwapError, OSError, RuntimeError, WebSocketException) as error:
        sys.stderr.write(f"benchmarks.stream: {error}\n")
        return 2
    print(table(report))
    provider = str(report["provider"]).removesuffix("ExecutionProvider").lower()
    file: Path = options.out / f"stream-{provider}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nalso in {file.parent.name}/{file.name}")
    return 1 if any(row["problems"] for row in report["rows"]) else 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """A row for each number of streams at once; one warm-up second before each."""
    bundle = Bundle.open(options.bundle)
    identity = bundle.manifest.identities[0].name
    frames = camera(options.width, options.height)
    rows: list[dict[str, Any]] = []
    with serving(options.bundle, str(options.device)) as server:
        url = f"ws://{HOST}:{server.port}/stream?target={identity}&output={options.output}"
        for streams in each(options.streams, len(options.streams), "row"):
            _feed(url, frames, streams, options.fps, min(options.seconds, 1.0))
            before = _cpu_s(server.process_id)
            row = _row(streams, _feed(url, frames, streams, options.fps, options.seconds))
            busy = _cpu_s(server.process_id) - before
            rows.append(row | {"cpu_ms": round(1000 * busy / max(row["answered"], 1), 1)})
        provider = _provider(server.port)
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": facts(),
        "bundle": bundle.manifest.name,
        "encoder_sha256": bundle.manifest.encoder.graph.sha256,
        "identity": identity,
        "provider": provider,
        "frame": f"{options.width}x{options.height}",
        "frame_bytes": round(statistics.mean(len(frame) for frame in frames)),
        "output": options.output,
        "camera_fps": options.fps,
        "seconds": options.seconds,
        "rows": rows,
    }


def camera(width: int, height: int) -> list[bytes]:
    """JPEG frames of a person who sways in front of a wall, so that the last leads on to the first."""
    photo = PillowImage.open(PHOTO).convert("RGB")
    photo = photo.resize((round(photo.width * height / photo.height), height), PillowImage.Resampling.LANCZOS)
    pixels = np.asarray(photo)
    wide = np.pad(pixels, ((40, 40), (width, width), (0, 0)), mode="edge")
    return [_shot(wide, width, height, 2 * math.pi * number / SWAY) for number in range(SWAY)]


def _shot(wide: np.ndarray[Any, np.dtype[np.uint8]], width: int, height: int, phase: float) -> bytes:
    left = round((wide.shape[1] - width) / 2 + 0.08 * width * math.sin(phase))
    top = round(40 + 20 * math.sin(2 * phase))
    file = io.BytesIO()
    PillowImage.fromarray(wide[top : top + height, left : left + width]).save(file, "JPEG", quality=85)
    return file.getvalue()


def _feed(url: str, frames: list[bytes], streams: int, fps: float, seconds: float) -> list[Tally]:
    """`streams` clients at once, each with `fps` frames a second for `seconds`."""
    tallies = [Tally() for _ in range(streams)]
    clients = [threading.Thread(target=_client, args=(url, frames, fps, seconds, tally)) for tally in tallies]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return tallies


def _client(url: str, frames: list[bytes], fps: float, seconds: float, tally: Tally) -> None:
    count = max(round(fps * seconds), 1)
    with connect(url, compression=None, max_size=None) as socket:
        started: list[float] = []
        reader = threading.Thread(target=_read, args=(socket, started, count, tally))
        reader.start()
        begin = time.perf_counter()
        for number in range(count):
            time.sleep(max(begin + number / fps - time.perf_counter(), 0))
            started.append(time.perf_counter())
            socket.send(frames[number % len(frames)])
        reader.join()
        tally.sent, tally.wall_s = count, time.perf_counter() - begin


def _read(socket: ClientConnection, started: list[float], count: int, tally: Tally) -> None:
    """Until the answer to the last frame, which nothing newer can replace."""
    report: dict[str, Any] = {"frame": -1}
    message: str | bytes = b""
    while report["frame"] < count - 1 or isinstance(message, str):
        try:
            message = socket.recv(timeout=ANSWER_LIMIT_S)
        except (TimeoutError, WebSocketException) as error:
            _count(tally.problems, type(error).__name__)
            return
        if isinstance(message, bytes):
            tally.latencies_ms.append(1000 * (time.perf_counter() - started[report["frame"]]))
            tally.received_bytes += len(message)
            continue
        report = {"frame": -1} | json.loads(message)
        tally.dropped = report["dropped"]
        for step, took in report.get("milliseconds", {}).items():
            tally.steps_ms.setdefault(step, []).append(took)
        if "problem" in report:
            _count(tally.problems, report["problem"]["type"])
            if report["frame"] == count - 1:
                return


def _count(problems: dict[str, int], name: str) -> None:
    problems[name] = problems.get(name, 0) + 1


def _row(streams: int, tallies: list[Tally]) -> dict[str, Any]:
    """The streams of one run together; frames per second of each."""
    latencies = [took for tally in tallies for took in tally.latencies_ms]
    steps = {step for tally in tallies for step in tally.steps_ms}
    problems: dict[str, int] = {}
    for tally in tallies:
        for name, count in tally.problems.items():
            problems[name] = problems.get(name, 0) + count
    rate = statistics.mean(len(tally.latencies_ms) / tally.wall_s for tally in tallies)
    return {
        "streams": streams,
        "frames_per_s": round(rate, 1),
        "p50_ms": percentile(latencies, 50),
        "p95_ms": percentile(latencies, 95),
        "sent": sum(tally.sent for tally in tallies),
        "answered": len(latencies),
        "dropped": sum(tally.dropped for tally in tallies),
        "problems": problems,
        "answer_bytes": round(sum(tally.received_bytes for tally in tallies) / max(len(latencies), 1)),
        "steps_ms": {
            step: round(statistics.median([took for t in tallies for took in t.steps_ms.get(step, [])]), 1)
            for step in sorted(steps)
        },
    }


def _cpu_s(process_id: int) -> float:
    """Processor time that the service has used; NaN where there is no /proc.

    Unlike the frames per second it does not depend on what else the machine does.
    """
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(figures: list[float], percent: int) -> float | None:
    """None without figures."""
    if len(figures) < 2:
        return round(figures[0], 1) if figures else None
    return round(statistics.quantiles(figures, n=100, method="inclusive")[percent - 1], 1)


_COLUMNS = ("frames/s", "p50 ms", "p95 ms", "cpu ms", "dropped", "problems")


def table(report: dict[str, Any]) -> str:
    """The report as text of fixed width."""
    machine = report["machine"]
    lines = [
        f"bundle {report['bundle']}, identity {report['identity']}, {report['provider']}",
        f"{machine['cores']} cores of {machine['processor']}, Python {machine['python']}",
        f"frames of {report['frame']} at {report['camera_fps']:g} a second for {report['seconds']:g} s",
        "",
        f"{'streams':9}" + "".join(f"{name:>9}" for name in _COLUMNS) + "  of a frame, ms",
    ]
    for row in report["rows"]:
        steps = " ".join(f"{step} {took:g}" for step, took in row["steps_ms"].items() if step != "total")
        figures = [row["frames_per_s"], row["p50_ms"], row["p95_ms"], row["cpu_ms"], row["dropped"]]
        cells = "".join(f"{'-' if figure is None else figure:>9}" for figure in figures)
        lines.append(f"{row['streams']:<9}{cells}{sum(row['problems'].values()):9}  {steps}")
    return "\n".join(lines)


def _provider(port: int) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{port}/health/ready", timeout=30) as answer:
        return str(json.load(answer)["provider"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--device", type=Device, choices=list(Device), default=Device.AUTO)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2], help="streams at once (4 at most)")
    parser.add_argument("--fps", type=float, default=30.0, help="frames a second that each camera gives")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--output", choices=["photo", "face"], default="photo")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
