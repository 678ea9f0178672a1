"""python -m benchmarks.serving, the judge of the serving path: ceilings, service, peers, goals."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import goals
from benchmarks.bare import Bare
from benchmarks.load import generator
from benchmarks.machine import facts
from benchmarks.peers import PEERS, PYTHON, versions
from benchmarks.pictures import photo, ready_crop
from benchmarks.progress import steps
from benchmarks.report import median, medians, table
from benchmarks.rounds import (
    CAPACITY_C,
    Run,
    bare_rows,
    capacity,
    form,
    peer_rows,
    peers,
    service,
    service_rows,
    strained,
)
from benchmarks.strain import over_rounds, soak
from benchmarks.subject import Subject
from faceswap.bundle import Bundle
from faceswap.errors import SwapError
from faceswap.sessions import Device, available_cores

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 if the service failed a request, or 2 after one line for what could not be measured."""
    options = _parser().parse_args(arguments)
    try:
        report = measure(options)
    except (SwapError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"benchmarks.serving: {error}\n")
        return 2
    print(table(report))
    print(f"\n{goals.table(goals.goals(report))}")
    provider = str(report["provider"]).removesuffix("ExecutionProvider").lower()
    precision = f"-{options.precision}" if options.precision else ""
    file: Path = options.out / f"serving-{provider}{precision}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nalso in {file.parent.name}/{file.name}")
    return 1 if any(row["errors"] for row in report["rows"] if row["kind"].startswith("service")) else 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rows once a round, so that a slow minute of the machine hits every row alike."""
    subject = Subject(options.bundle, options.device, options.precision)
    identity = subject.identity()
    swapper = subject.open()
    run = Run(
        options,
        subject,
        Bare(subject, identity, available_cores()),
        ready_crop(swapper, identity),
        photo(identity),
    )
    del swapper
    with steps(options.rounds * (3 + 2 * len(peers(run)))) as step:
        for number in range(options.rounds):
            bare_rows(run)
            step("bare loops")
            with service(run) as server:
                service_rows(run, server, number)
                step("service")
                strained(run, server, number)
                step("service, open loop")
                run.peak_mib.append(server.memory_mib(peak=True))
            peer_rows(run, number, step)
    report = _report(run)
    if options.soak:
        with service(run) as server:
            report["soak"] = soak(server, form(server, run.crop), CAPACITY_C, capacity(run), options.soak)
    report["goals"] = [goal.as_json() for goal in goals.goals(report)]
    return report


def _report(run: Run) -> dict[str, Any]:
    manifest = Bundle.open(run.subject.bundle).manifest
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": facts(),
        "bundle": manifest.name,
        "encoder_sha256": manifest.encoder.graph.sha256,
        "identity": run.bare.identity,
        "provider": run.bare.provider,
        "precision": run.subject.precision,
        "load": generator(),
        "rounds": run.options.rounds,
        "seconds": run.options.seconds,
        "peers": versions(run.options.peers) if peers(run) else {},
        "peers_failed": run.failed,
        "start_s": median(run.starts, 2),
        "memory_idle_mib": median(run.idle_mib, 1),
        "memory_peak_mib": median(run.peak_mib, 1),
        "bare_call_ms": median(run.bare_call_ms, 3),
        "library_call_ms": median(run.library_call_ms, 3),
        "steady": over_rounds(run.steady),
        "flooded": over_rounds(run.flooded),
        "rows": medians(list(run.rows.values())),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--device", type=Device, choices=list(Device), default=Device.AUTO)
    parser.add_argument("--precision", help="of the service's graphs; by default the library's own choice")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are taken over them")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=[1, 8, 32, 128], help="open connections"
    )
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES", help="also watch the memory")
    parser.add_argument(
        "--peers", type=Path, default=PYTHON if PYTHON.exists() else None, metavar="PYTHON",
        help="the python of an environment made by `python -m benchmarks.peers --install FOLDER`",
    )  # fmt: skip
    names = [peer.name for peer in PEERS]
    parser.add_argument(
        "--only", nargs="*", choices=names, default=names, metavar="PEER", help=", ".join(names)
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
