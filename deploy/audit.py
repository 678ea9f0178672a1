"""Known holes in what the image holds, by pip-audit: python deploy/audit.py LOCK.txt... [OPTION...]

Exit 0: asked about every package, nothing known. 1: a hole is known. 3: could not ask, so nothing is known;
pip-audit alone ends with 1 in that case as well, and without --strict even with 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOUND, NOT_ASKED = 1, 3
# The locks are complete, so nothing is resolved or downloaded; only names and versions are sent.
COMMAND = ("-m", "pip_audit", "--strict", "--require-hashes", "--disable-pip", "--progress-spinner", "off")


def main(arguments: list[str]) -> int:
    """Options are pip-audit's own, such as `-s osv`."""
    locks = [argument for argument in arguments if argument.endswith(".txt")]
    options = [argument for argument in arguments if argument not in locks]
    codes = {_audit(lock, options) for lock in locks}
    return FOUND if FOUND in codes else max(codes)


def _audit(lock: str, options: list[str]) -> int:
    command = [sys.executable, *COMMAND, "--format", "json", "--requirement", lock, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    pinned = sum("==" in line for line in Path(lock).read_text().splitlines())
    answered = _answered(done.stdout)
    if len(answered) < pinned:
        reason = (done.stderr.strip().splitlines() or [f"{len(answered)} of {pinned} were answered"])[-1]
        sys.stderr.write(f"{lock}: NOT AUDITED, nothing is known about its packages: {reason}\n")
        return NOT_ASKED
    holes = [(each, hole) for each in answered for hole in each["vulns"]]
    for each, hole in holes:
        fixed = ", ".join(hole["fix_versions"]) or "no version yet"
        sys.stderr.write(f"{lock}: {each['name']} {each['version']} has {hole['id']}; fixed in {fixed}\n")
    sys.stdout.write(f"{lock}: {pinned} packages audited, {len(holes)} known holes\n")
    return FOUND if holes else 0


def _answered(report: str) -> list[dict[str, Any]]:
    """The packages that pip-audit got an answer for; none if it broke off."""
    try:
        return [each for each in json.loads(report)["dependencies"] if "vulns" in each]
    except (ValueError, KeyError):
        return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
