"""The manifests, rendered once for each way to deploy them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
WAYS = {
    "base": ("base",),
    "cpu-hpa": ("overlays/cpu-hpa",),
    "gpu": ("overlays/gpu",),
    "claim": ("base", "components/bundle-claim"),
    "gpu-claim": ("overlays/gpu", "components/bundle-claim"),
    "image": ("base", "components/bundle-image"),
}
"""What is deployed: an overlay, and the components that an overlay of the user's adds to it."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a kustomization, as a user would write one for their cluster."""
    resource, *components = (os.path.relpath(KUBERNETES / name, tmp_path) for name in WAYS[request.param])
    lines = ["resources:", f"  - {resource}", *(["components:"] if components else [])]
    lines += [f"  - {component}" for component in components]
    (tmp_path / "kustomization.yaml").write_text("\n".join(lines) + "\n")
    return tmp_path
