"""python -m benchmarks.scale_out: one replica and several on a Ray of this machine (extra `ray`)."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.load import generator, send_for
from benchmarks.machine import facts
from benchmarks.pictures import photo
from benchmarks.progress import steps
from benchmarks.rounds import form
from benchmarks.server import running
from benchmarks.serving import RESULTS
from faceswap.bundle import Bundle
from faceswap.errors import SwapError

PROGRAM = ("-m", "service.ray_app")
CONNECTIONS = 16


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 if a request failed, or 2 after one clear line for what could not be measured."""
    options = _parser().parse_args(arguments)
    try:
        report = measure(options)
    except (SwapError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"benchmarks.scale_out: {error}\n")
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(table(report["points"]))
    return 1 if any(point["errors"] for point in report["points"]) else 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Each number of replicas once a round, so that a slow minute of the machine hits all alike."""
    target = Bundle.open(options.bundle).manifest.identities[0].name
    runs: dict[int, list[dict[str, float]]] = {count: [] for count in options.replicas}
    with steps(options.rounds * len(runs)) as step:
        for _ in range(options.rounds):
            for count, found in runs.items():
                found.append(once(options, count, target))
                step(f"replicas: {count}")
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": facts(),
        "load": generator(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "connections": CONNECTIONS,
        "cpus_of_a_replica": options.cpus,
        "gpus_of_a_replica": options.gpus,
        "points": points(runs),
    }


def once(options: argparse.Namespace, count: int, target: str) -> dict[str, float]:
    variables = {
        "FACESWAPD_BUNDLE": str(options.bundle.resolve()),
        "FACESWAPD_RAY_MIN_REPLICAS": str(count),
        "FACESWAPD_RAY_MAX_REPLICAS": str(count),
        "FACESWAPD_RAY_CPUS": str(options.cpus),
        "FACESWAPD_RAY_GPUS": str(options.gpus),
    }
    with running([sys.executable, *PROGRAM], variables) as server:
        _, answers = send_for(form(server, photo(target)), CONNECTIONS, options.seconds)
    return {
        "swaps_per_s": answers.rate,
        "p50_ms": answers.percentile(50),
        "p99_ms": answers.percentile(99),
        "errors": answers.errors,
    }


def points(runs: dict[int, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Medians over the rounds, and each rate as a multiple of the smallest number of replicas'."""
    found: list[dict[str, Any]] = []
    for count, rounds in sorted(runs.items()):
        medians = {key: round(statistics.median(run[key] for run in rounds), 2) for key in rounds[0]}
        first = found[0]["swaps_per_s"] if found else medians["swaps_per_s"]
        times = round(medians["swaps_per_s"] / first, 2) if first else None
        errors = sum(run["errors"] for run in rounds)
        found.append({"replicas": count, **medians, "errors": errors, "times_the_first": times})
    return found


def table(points: list[dict[str, Any]]) -> str:
    columns = ("replicas", "swaps_per_s", "times_the_first", "p50_ms", "p99_ms", "errors")
    lines = ["".join(f"{name:>17}" for name in columns)]
    lines += ["".join(f"{point[name]!s:>17}" for name in columns) for point in points]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_out", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cpus", type=float, default=1.0, help="of each replica")
    parser.add_argument("--gpus", type=float, default=0.0, help="of each replica; 0.5: two share one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load, for each")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale-out.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
