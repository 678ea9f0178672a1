"""Sessions on CUDA by the fake: buckets, buffers that stay, recordings, and failures that are told."""

from __future__ import annotations

import ctypes
import gc
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from faceswap import BundleError, DeviceError, Swapper
from faceswap.bundle import Bundle
from faceswap.cuda import CudaOptions, Cudart, Fault, LockLane, ThreadLane
from faceswap.cuda_session import CudaSession
from faceswap.detection import LibFaceDetection
from faceswap.errors import DeviceLostError
from faceswap.session_cache import SessionCache
from faceswap.sessions import Session, SessionFactory
from faceswap.signatures import Signature, Tensor
from tests.faceswap.computing_on_cuda import ComputingOnCuda
from tests.faceswap.fake_onnxruntime import (
    CPU,
    CUDA,
    Fail,
    FakeCudaLibrary,
    FakeOnnxRuntime,
    FakeOrtSession,
    RuntimeException,
    Value,
)

Array = npt.NDArray[Any]
GPU_WHEEL = (CUDA, CPU)
SIGNATURE = Signature(Tensor("uint8", (64, 64, 3)), Tensor("float32", (2, 4, 4)))


def brightness(batch: Array) -> Array:
    """(N, 64, 64, 3) -> (N, 2, 4, 4): each row tells which picture it is of."""
    means: Array = batch.reshape(len(batch), -1).mean(axis=1).astype(np.float32)
    return np.broadcast_to(means[:, None, None, None], (len(batch), 2, 4, 4)).copy()


def pictures(*levels: int) -> Array:
    return np.stack([np.full((64, 64, 3), level, np.uint8) for level in levels])


class Card:
    """A fake card, its library, and a factory that uses them."""

    def __init__(self, options: CudaOptions | None = None, **more: Any) -> None:
        more.setdefault("cuda_answer", brightness)
        self.runtime = FakeOnnxRuntime(GPU_WHEEL, gpu=True, **more)
        self.library = FakeCudaLibrary()
        found = Cudart(self.library)
        self.factory = SessionFactory("cuda", 1, self.runtime, options, lambda: found)

    def open(self) -> Session:
        return self.factory.open(b"graph", "encoder.onnx", SIGNATURE)

    @property
    def raw(self) -> FakeOrtSession:
        return self.runtime.sessions[-1]


@pytest.mark.parametrize(
    ("most", "buckets"),
    [(1, (1,)), (2, (1, 2)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12)), (64, (1, 2, 4, 8, 16, 32, 64))],
)
def test_buckets_are_powers_of_two_up_to_the_largest_batch(most: int, buckets: tuple[int, ...]) -> None:
    assert CudaOptions(most).buckets == buckets


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9, 21])
def test_every_picture_gets_its_own_answer_whatever_the_batch(count: int, graphs: bool) -> None:
    card = Card(CudaOptions(8, graphs))
    session = card.open()
    levels = list(range(10, 10 + count))
    for _ in range(2):  # the second time buckets are there, and recordings are replayed
        answer = session.run(pictures(*levels))
        assert answer.shape == (count, 2, 4, 4)
        assert answer[:, 0, 0, 0].tolist() == levels
        levels.reverse()
    assert set(card.raw.sizes) <= {1, 2, 4, 8}


def test_a_batch_is_padded_with_nobodys_face() -> None:
    seen: list[Array] = []

    def answer(batch: Array) -> Array:
        seen.append(batch.copy())
        return brightness(batch)

    session = Card(CudaOptions(4), cuda_answer=answer).open()
    session.run(pictures(9, 9, 9, 9))
    session.run(pictures(5, 5, 5))
    assert seen[-1][:, 0, 0, 0].tolist() == [5, 5, 5, 0]


def test_an_answer_is_the_callers_own() -> None:
    for card in (Card(), Card(CudaOptions(graphs=True))):
        session = card.open()
        first = session.run(pictures(1))
        session.run(pictures(2))
        assert first[0, 0, 0, 0] == 1


def test_buffers_are_pinned_and_given_back() -> None:
    card = Card(CudaOptions(4))
    session = card.open()
    session.run(pictures(1, 2))
    session.run(pictures(3, 4))
    assert card.library.allocated == 2, "one for what is taken and one for what is given, once for each size"
    del session
    gc.collect()
    assert (card.library.freed, card.library.buffers) == (2, {})


def test_without_nvidias_library_it_runs_from_ordinary_memory(caplog: pytest.LogCaptureFixture) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    with caplog.at_level(logging.INFO):
        assert Cudart.find(missing) is None
    assert "buffers are not pinned" in caplog.text
    runtime = FakeOnnxRuntime(GPU_WHEEL, gpu=True, cuda_answer=brightness)
    factory = SessionFactory("cuda", 1, runtime, None, lambda: None)
    session = factory.open(b"graph", "encoder.onnx", SIGNATURE)
    assert session.run(pictures(3, 4))[:, 0, 0, 0].tolist() == [3, 4]
    assert factory.memory_bytes() != 0


def test_pinned_memory_that_is_used_up_is_no_failure() -> None:
    assert Cudart(FakeCudaLibrary(broken=2)).pinned((4, 4), np.uint8) is None


def test_what_is_told_to_cuda() -> None:
    card = Card(CudaOptions(arena_bytes=2**30, channels_last=True, graphs=True))
    card.open()
    name, options = card.runtime.providers[-1]
    assert name == CUDA
    assert options == {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": str(2**30),
        "prefer_nhwc": "1",
        "enable_cuda_graph": "1",
    }
    assert CudaOptions().provider().keys() == {"cudnn_conv_algo_search", "arena_extend_strategy"}


class TestGraphs:
    """CUDA graphs: recorded and replayed by one thread, with fixed addresses, and proved."""

    def test_each_size_is_recorded_once_and_replayed_from_any_thread(self) -> None:
        card = Card(CudaOptions(4, graphs=True))
        session = card.open()
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda level: session.run(pictures(level))[0, 0, 0, 0], range(20)))
        assert answers == list(range(20))
        assert [graph for _, graph in card.raw.recordings] == ["1"]
        assert threading.get_ident() not in {thread for thread, _ in card.raw.recordings}
        session.run(pictures(1, 2, 3))
        assert [graph for _, graph in card.raw.recordings] == ["1", "4"]

    def test_sessions_are_made_in_the_thread_that_records(self) -> None:
        threads: list[int] = []

        def answer(batch: Array) -> Array:
            threads.append(threading.get_ident())
            return brightness(batch)

        card = Card(CudaOptions(1, graphs=True), cuda_answer=answer)
        for _ in range(2):
            card.open().run(pictures(1))
        assert len(set(threads)) == 1

    def test_a_recording_that_answers_otherwise_is_refused(self) -> None:
        session = Card(CudaOptions(4, graphs=True), replays_wrongly=True).open()
        with pytest.raises(
            DeviceError, match=r"CUDA graph of batch 1 does not answer .* without CUDA graphs"
        ):
            session.run(pictures(1))


def test_a_graph_that_leaves_sides_open_shows_them_by_a_run() -> None:
    outputs = [Value("latents", "tensor(float)", ["N", "c", "h", "w"])]
    for graphs in (False, True):
        session = Card(CudaOptions(4, graphs), outputs=outputs).open()
        assert session.run(pictures(1, 2, 3)).shape == (3, 2, 4, 4)


class TestFailures:
    """CUDA's errors stay: the process is done for, and nothing goes to the CPU instead."""

    def lose(self, card: Card, error: Exception) -> Session:
        session = card.open()
        assert card.factory.fault.reason is None
        card.raw.answer = error
        with pytest.raises(DeviceLostError, match="out of memory"):
            session.run(pictures(1))
        return session

    def test_an_error_in_a_run_is_told_and_nothing_runs_any_more(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        card = Card()
        session = self.lose(card, Fail("CUDA failure 2: out of memory\nand a stack"))
        assert card.factory.fault.reason == "CUDA failure 2: out of memory"
        assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
        card.raw.answer = brightness  # as if it worked again
        for attempt in (lambda: session.run(pictures(1)), card.open):
            with pytest.raises(DeviceLostError):
                attempt()
        assert {session.provider for session in card.runtime.sessions} == {CUDA}

    def test_factories_of_one_process_share_it(self) -> None:
        card = Card()
        card.open()
        decoders = card.factory.without_arena()
        card.factory.fault.note("lost")
        with pytest.raises(DeviceLostError):
            decoders.open(b"graph", "will.onnx", SIGNATURE)

    def test_no_memory_for_one_more_network_is_a_failure_of_the_device(self) -> None:
        card = Card()
        card.open()
        card.runtime.refusal = RuntimeException("Failed to allocate memory for requested buffer of size 9")
        with pytest.raises(DeviceLostError, match="Failed to allocate"):
            card.open()
        assert card.factory.fault.reason is not None

    def test_a_card_that_answers_no_call_any_more_is_lost_whatever_the_error(self) -> None:
        card = Card()
        card.open()
        card.runtime.refusal, card.library.broken = Fail("no graph"), 700
        with pytest.raises(DeviceLostError):
            card.open()

    @pytest.mark.parametrize(
        "error",
        [Fail("no such operator"), BundleError("another shape"), RuntimeException("weights do not fit")],
    )
    def test_a_graph_that_is_at_fault_is_not(self, error: Exception) -> None:
        card = Card()
        session = card.open()
        card.runtime.refusal, card.runtime.refuses_on_cpu = error, True
        with pytest.raises((DeviceError, BundleError)) as caught:
            card.open()
        assert not isinstance(caught.value, DeviceLostError)
        assert card.factory.fault.reason is None
        assert session.run(pictures(4))[0, 0, 0, 0] == 4

    def test_a_copy_that_fails_is_a_failure_of_the_device(self) -> None:
        card = Card()
        session = card.open()
        session.run(pictures(1))
        card.library.broken = 719
        with pytest.raises(DeviceLostError, match="CUDA error 719"):
            session.run(pictures(1))


def test_decoders_are_counted_by_the_memory_of_the_card() -> None:
    card = Card()
    card.open()
    cache = SessionCache(None, card.factory.memory_bytes, most=lambda: card.factory.largest_ratio)

    def load() -> Session:
        card.library.used += 30_000_000
        return card.open()

    cache.get("will", 1_000_000, load)
    assert cache.bytes == 30_000_000


def bound(session: Any, cudart: Cudart | None, options: CudaOptions | None = None) -> CudaSession:
    return CudaSession(session, onnxruntime, options or CudaOptions(8), LockLane(), Fault(), cudart, "cpu")


@pytest.mark.parametrize("cudart", [None, Cudart(FakeCudaLibrary())], ids=["numpy", "pinned"])
def test_the_binding_with_the_real_onnxruntime_on_its_cpu(
    identity_bundle: Path, cudart: Cudart | None
) -> None:
    """Everything but the device: the fake's OrtValue and binding behave as the real ones do."""
    bundle = Bundle.open(identity_bundle)
    manifest = bundle.manifest
    graphs = [bundle.read(entry) for entry in (manifest.encoder.graph, bundle.identity("echo").decoder)]
    encoder, decoder = (
        bound(onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]), cudart)
        for graph in graphs
    )
    for count in (1, 3, 8, 11):
        crops = np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
        assert np.array_equal(decoder.run(encoder.run(crops))[..., :3], crops)


def test_a_swapper_on_cuda_runs_every_size_before_it_is_ready(identity_bundle: Path) -> None:
    runtime = ComputingOnCuda(identity_bundle)
    factory = SessionFactory("cuda", 1, runtime, CudaOptions(4), lambda: None)
    swapper = Swapper(Bundle.open(identity_bundle), factory, LibFaceDetection(), pinned=["echo"])
    swapper.warm_up()
    assert [sorted(set(sizes)) for sizes in runtime.sizes] == [[1, 2, 4], [1, 2, 4]]
    crops = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    assert np.array_equal(swapper.decode(swapper.encode(crops), "echo"), crops)
    assert (swapper.provider, swapper.failure) == (CUDA, None)
    factory.fault.note("lost")
    assert swapper.failure == "lost"


def test_the_lane_of_cuda_graphs_hands_errors_over() -> None:
    def fail() -> None:
        raise ValueError("in the lane")

    for lane in (LockLane(), ThreadLane()):
        with pytest.raises(ValueError, match="in the lane"):
            lane.run(fail)
        assert lane.run(lambda: 3) == 3


def test_a_real_library_is_called_as_its_header_says() -> None:
    """ctypes checks nothing: the fake takes the very pointers that C would."""
    library = FakeCudaLibrary(used=5)
    cudart = Cudart(library)
    assert cudart.used_bytes() == 5
    array = cudart.pinned((2, 3), np.float32)
    assert array is not None
    assert (array.shape, array.dtype.name, float(array.sum())) == ((2, 3), "float32", 0.0)
    device = np.arange(6, dtype=np.float32)
    cudart.copy(device.ctypes.data, array)
    assert array.ravel().tolist() == device.tolist()
    load: Callable[[str], Any] = ctypes.CDLL
    assert Cudart.find(load) is None or isinstance(Cudart.find(load), Cudart)
