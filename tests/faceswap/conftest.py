"""For the library's tests: the real detector, the identity bundle, and pictures made in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceswap import Image, Swapper, read_image
from faceswap.detection import LibFaceDetection

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="session")
def detector() -> LibFaceDetection:
    return LibFaceDetection()


@pytest.fixture(scope="session")
def swapper(identity_bundle: Path) -> Swapper:
    return Swapper.open(identity_bundle, "cpu", threads=1)


@pytest.fixture(scope="session")
def photo(examples: Path) -> Callable[[str], Image]:
    """An example by name."""
    return lambda name: read_image((examples / name).read_bytes())


@pytest.fixture
def bundle(identity_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the identity bundle that a test may damage."""
    return Path(shutil.copytree(identity_bundle, tmp_path / "bundle"))


@pytest.fixture
def edit_manifest(bundle: Path) -> Callable[[Edit], None]:
    """Changes the copy's manifest.json in place."""

    def edit(change: Edit) -> None:
        path = bundle / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return edit
