"""python -m benchmarks.torture: tests/torture in full, and the figures of docs/reliability.md."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.serving import RESULTS

ROOT = Path(__file__).parents[1]
TESTS = "tests/torture"
PATIENCE_S = 3600
"""For one test: the soak takes half an hour, where the suite's own bound is minutes."""


def main(arguments: list[str] | None = None) -> int:
    """The status of pytest; what was measured is written also if a test has failed, and says so."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torture", description=__doc__)
    parser.add_argument("--small", action="store_true", help="as in the ordinary suite: a minute, not 45")
    parser.add_argument("--out", type=Path, default=RESULTS / "torture.json")
    parser.add_argument("-k", default="", help="only these tests, as for pytest; writes nothing")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "torture.json"
        status = run(written, full=not options.small, only=options.k)
        report: dict[str, Any] = json.loads(written.read_text()) | {"passed": status == 0}
    sys.stdout.write(table(report["rows"]))
    if not options.k:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return status


def run(written: Path, full: bool, only: str) -> int:
    variables = {"TORTURE_OUT": str(written), "TORTURE": "1" if full else ""}
    patience = ["-o", f"faulthandler_timeout={PATIENCE_S}"] if full else []
    command = [sys.executable, "-m", "pytest", TESTS, "-q", *patience, *(["-k", only] if only else [])]
    return subprocess.run(command, cwd=ROOT, env=os.environ | variables).returncode


def table(rows: dict[str, dict[str, float]]) -> str:
    """Rows as Markdown, in the order in which they came."""
    lines = ["| what | figures |", "|---|---|"]
    for name, figures in rows.items():
        told = ", ".join(f"{key.replace('_', ' ')} {figure:,.10g}" for key, figure in figures.items())
        lines.append(f"| {name} | {told} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
