"""For all rooms: no settings from outside, one event loop, bundles; no tests of training without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.server import HOST, serving

ROOT = Path(__file__).parents[1]
NEEDS_TORCH = ("models", "export", "e2e", "benchmarks/test_training.py")
HAS_TORCH = all(find_spec(name) for name in ("torch", "onnx"))

collect_ignore = [] if HAS_TORCH else list(NEEDS_TORCH)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("FACESWAPD_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def identity_bundle() -> Path:
    """The bundle whose `echo` gives the posted face back; see tests/make_identity_bundle.py."""
    return ROOT / "tests" / "data" / "identity-bundle"


@pytest.fixture(scope="session")
def url(identity_bundle: Path) -> Iterator[str]:
    """The address of a running service with echo, negative and cutout: one for all tests that ask for it."""
    with serving(identity_bundle, "cpu") as server:
        yield f"http://{HOST}:{server.port}"


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of sample photos: a.jpg, b.jpg, two.jpg (two faces), no-face.jpg."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def astronaut() -> npt.NDArray[np.uint8]:
    """(512, 512, 3) RGB, a real photo with one face (NASA, public domain)."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    pixels: npt.NDArray[np.uint8] = data.astronaut()
    return pixels


def pytest_report_header() -> list[str]:
    """Says what is left out, so that a short run does not pass for a full one."""
    here = [room for room in NEEDS_TORCH if (Path(__file__).parent / room).exists()]
    return [] if HAS_TORCH or not here else [f"without torch: tests/{{{','.join(here)}}} are not run"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in pytest_report_header():
        terminalreporter.write_line(line)
