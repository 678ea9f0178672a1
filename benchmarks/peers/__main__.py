"""python -m benchmarks.peers --install FOLDER: an environment of their own for the peers."""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers import REQUIREMENTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--install", type=Path, required=True, metavar="FOLDER")
    folder: Path = parser.parse_args().install
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return subprocess.run([*pip, "-r", str(REQUIREMENTS)]).returncode


if __name__ == "__main__":
    sys.exit(main())
