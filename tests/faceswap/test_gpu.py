"""On a real CUDA device; everywhere else these skip. `pytest -m gpu` runs only them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from faceswap import DeviceError, Swapper
from faceswap.bundle import Bundle
from faceswap.cuda import CudaOptions
from faceswap.sessions import SessionFactory

pytestmark = pytest.mark.gpu

WAYS = {
    "plain": CudaOptions(),
    "CUDA graphs": CudaOptions(graphs=True),
    "channels last": CudaOptions(channels_last=True),
    "both": CudaOptions(graphs=True, channels_last=True),
    "a bounded arena": CudaOptions(arena_bytes=2**30),
}


def opened(bundle: Path, options: CudaOptions | None = None, precision: str = "auto") -> Swapper:
    try:
        return Swapper.open(bundle, "cuda", 1, precision, cuda=options)
    except DeviceError as error:
        pytest.skip(f"no CUDA here: {error}")


@pytest.fixture
def on_cuda(identity_bundle: Path) -> Swapper:
    return opened(identity_bundle)


def crops_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def test_cuda_is_cuda(on_cuda: Swapper) -> None:
    assert on_cuda.provider == "CUDAExecutionProvider"
    assert on_cuda.failure is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [1, 2, 3, 64, 70])
def test_the_identity_network_gives_every_pixel_back(identity_bundle: Path, way: str, count: int) -> None:
    swapper = opened(identity_bundle, WAYS[way])
    for seed in range(3):  # a recording is replayed with other pictures
        crops = crops_of(count, seed)
        assert np.array_equal(swapper.decode(swapper.encode(crops), "echo"), crops)


@pytest.mark.parametrize("way", ["plain", "CUDA graphs"])
def test_many_threads_get_their_own_faces(identity_bundle: Path, way: str) -> None:
    swapper = opened(identity_bundle, WAYS[way])

    def goes_round(seed: int) -> bool:
        crops = crops_of(1 + seed % 5, seed)
        return np.array_equal(swapper.decode(swapper.encode(crops), "echo"), crops)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(goes_round, range(64)))


def test_a_swapper_is_warm_in_every_size_and_counts_the_memory_of_the_card(identity_bundle: Path) -> None:
    swapper = opened(identity_bundle, CudaOptions(8))
    swapper.warm_up()
    swapper.load("echo")
    assert swapper.decoders.bytes > 0


def test_pinned_memory_and_memory_in_use_are_to_be_had(identity_bundle: Path) -> None:
    opened(identity_bundle)
    bundle = Bundle.open(identity_bundle)
    factory = SessionFactory("cuda", 1)
    factory.open(bundle.read(bundle.manifest.encoder.graph), "encoder")
    assert factory._cudart is not None, "NVIDIA's runtime library is loaded and not found"
    assert factory._cudart.used_bytes()
    assert factory._cudart.pinned((4, 4), np.uint8) is not None


def test_auto_takes_cuda_where_it_runs(on_cuda: Swapper, identity_bundle: Path) -> None:
    assert Swapper.open(identity_bundle, "auto").provider == on_cuda.provider


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("way", ["plain", "CUDA graphs"])
def test_the_demo_bundle_draws_on_cuda_what_it_draws_on_a_cpu(
    examples: Path, way: str, precision: str
) -> None:
    bundle = examples.parent / "bundles" / "demo"
    if precision == "fp16" and "fp16" not in Bundle.open(bundle).manifest.encoder.variants:
        pytest.skip("the bundle has no fp16 graphs")
    swapper, plain = opened(bundle, WAYS[way], precision), Swapper.open(bundle, "cpu", 1, "fp32")
    photo = examples / "a.jpg"
    for identity in swapper.identities:
        drawn, true = (each.swap(photo, identity).pixels.astype(int) for each in (swapper, plain))
        assert np.abs(drawn - true).mean() < 1.0
