"""On a real CUDA device; everywhere else these skip. `pytest -m gpu` runs only them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceswap import DeviceError, Swapper

pytestmark = pytest.mark.gpu


@pytest.fixture
def on_cuda(identity_bundle: Path) -> Swapper:
    try:
        return Swapper.open(identity_bundle, "cuda")
    except DeviceError as error:
        pytest.skip(f"no CUDA here: {error}")


def test_cuda_is_cuda(on_cuda: Swapper) -> None:
    assert on_cuda.provider == "CUDAExecutionProvider"


@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_the_identity_network_gives_every_pixel_back(on_cuda: Swapper, count: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    assert np.array_equal(on_cuda.decode(on_cuda.encode(crops), "echo"), crops)


def test_auto_takes_cuda_where_it_runs(on_cuda: Swapper, identity_bundle: Path) -> None:
    assert Swapper.open(identity_bundle, "auto").provider == on_cuda.provider
