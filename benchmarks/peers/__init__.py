"""Other servers for the same graphs: one small app each, written by its own documentation.

Each has two workers with one thread, takes a picture's bytes and answers a PNG. They run the very graphs
of the service through `faceswap` (see work.py), so that only the serving differs. They live in an
environment of their own, which `python -m benchmarks.peers --install FOLDER` makes.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server import Server, running
from benchmarks.subject import Subject

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
"""Where `make bench` puts them."""


@dataclass(frozen=True, slots=True)
class Peer:
    """`ready` is an address that answers 200 once the graphs are loaded.

    A peer that `takes_forms` gets the picture as a file field, as its own clients send it; the others,
    and the service beside them, as the body itself, which costs less.
    """

    name: str
    module: str
    ready: str
    takes_forms: bool = False


PEERS = (
    Peer("FastAPI", "benchmarks.peers.fastapi_app", "/health"),
    Peer("FastAPI, processes", "benchmarks.peers.fastapi_processes_app", "/health"),
    Peer("LitServe", "benchmarks.peers.litserve_app", "/health"),
    Peer("BentoML", "benchmarks.peers.bentoml_app", "/readyz", takes_forms=True),
    Peer("mosec", "benchmarks.peers.mosec_app", "/"),
    Peer("Ray Serve", "benchmarks.peers.ray_app", "/-/healthz"),
)
PACKAGES = ("fastapi", "uvicorn", "litserve", "bentoml", "mosec", "ray", "onnxruntime", "numpy", "pillow")


def started(peer: Peer, python: Path, subject: Subject) -> AbstractContextManager[Server]:
    """The peer, ready, with the graphs of `subject`. RuntimeError with the end of its log where it fails."""
    # No reports to makers; the repository's packages are imported from the working tree.
    quiet = {"PYTHONPATH": str(ROOT), "BENTOML_DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"}
    return running([str(python), "-m", peer.module], {**subject.variables(), **quiet}, peer.ready, False)


def versions(python: Path) -> dict[str, str]:
    """Of the packages in the peers' environment."""
    program = (
        "import json, sys; from importlib.metadata import version;"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    output = subprocess.run([str(python), "-c", program, *PACKAGES], check=True, capture_output=True)
    found: dict[str, str] = json.loads(output.stdout)
    return found
