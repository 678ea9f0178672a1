"""Batches: who goes together, who is dropped, whose failure stays whose."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import numpy.typing as npt
import pytest

from faceswap.errors import BundleError
from faceswap.faces import Pixels, Swapped
from service.batching import STUCK_AFTER_S, Batcher, Worker
from service.errors import DeadlineError, DrainingError, InternalError
from service.telemetry import Clock
from tests.service.fakes import FakeSwapper, Gate, until

pytestmark = pytest.mark.anyio

Latents = npt.NDArray[np.float32]


class Recorder(FakeSwapper):
    """Notes every call of a network as (step, identity, grey levels); `gate` holds the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, str, list[int]]] = []
        self.gate = Gate()
        self.on_encode = self._encoding
        self.on_decode = self._decoding
        self.broken: set[tuple[str, int | str]] = set()

    def _encoding(self, crops: Pixels) -> None:
        greys = [int(crop[0, 0, 0]) for crop in crops]
        self.calls.append(("encode", "", greys))
        self.gate()
        if any(("encode", grey) in self.broken for grey in greys):
            raise ValueError("this crop cannot be encoded")

    def _decoding(self, latents: Latents, identity: str) -> None:
        self.calls.append(("decode", identity, [int(latent[0, 0, 0]) for latent in latents]))
        if ("decode", identity) in self.broken:
            raise BundleError("this decoder is damaged")


class OneBundle(Batcher):
    """Where a test does not say otherwise, a face goes through `swapper`."""

    def __init__(self, swapper: FakeSwapper, workers: int, max_batch: int, window_s: float) -> None:
        super().__init__(workers, max_batch, window_s)
        self.swapper = swapper


@asynccontextmanager
async def started(
    swapper: FakeSwapper, workers: int = 1, max_batch: int = 8, window_s: float = 0.0
) -> AsyncIterator[OneBundle]:
    batcher = OneBundle(swapper, workers, max_batch, window_s)
    batcher.start()
    try:
        yield batcher
    finally:
        batcher.stop()


def ask(
    batcher: OneBundle,
    grey: int,
    identity: str = "echo",
    within_s: float = 20,
    clock: Clock | None = None,
    swapper: FakeSwapper | None = None,
) -> asyncio.Task[Swapped]:
    crop = np.full((64, 64, 3), grey, np.uint8)
    work = batcher.swap(
        swapper or batcher.swapper, crop, identity, time.monotonic() + within_s, clock or Clock()
    )
    return asyncio.ensure_future(work)


async def held(batcher: OneBundle, swapper: Recorder) -> asyncio.Task[Swapped]:
    """Keeps the only worker busy, so that what comes next waits together."""
    task = ask(batcher, 1)
    await swapper.gate.reached()
    return task


async def test_a_batch_is_encoded_together_and_decoded_by_identity() -> None:
    swapper = Recorder()
    async with started(swapper) as batcher:
        first = await held(batcher, swapper)
        rest = [ask(batcher, 10), ask(batcher, 20, "negative"), ask(batcher, 30)]
        await until(lambda: batcher.depth == 3)
        swapper.gate.open()
        faces = await asyncio.gather(first, *rest)
    assert [int(face.pixels[0, 0, 0]) for face in faces] == [1, 10, 235, 30]
    assert swapper.calls[2:] == [
        ("encode", "", [10, 20, 30]),
        ("decode", "echo", [10, 30]),
        ("decode", "negative", [20]),
    ]


async def test_faces_of_two_bundles_meet_in_no_network() -> None:
    old, new = Recorder(), Recorder()
    new.gate.open()
    async with started(old) as batcher:
        first = await held(batcher, old)
        rest = [
            ask(batcher, 10),
            ask(batcher, 20, swapper=new),
            ask(batcher, 30),
            ask(batcher, 40, swapper=new),
        ]
        await until(lambda: batcher.depth == 4)
        old.gate.open()
        faces = await asyncio.gather(first, *rest)
    assert [int(face.pixels[0, 0, 0]) for face in faces] == [1, 10, 20, 30, 40]
    assert old.calls[2:] == [("encode", "", [10, 30]), ("decode", "echo", [10, 30])]
    assert new.calls == [("encode", "", [20, 40]), ("decode", "echo", [20, 40])]


async def test_an_idle_worker_keeps_no_bundle() -> None:
    swapper = FakeSwapper()
    async with started(FakeSwapper()) as batcher:
        await ask(batcher, 10, swapper=swapper)
        gone = weakref.ref(swapper)
        del swapper
        await until(lambda: gone() is None)


async def test_a_batch_has_a_limit() -> None:
    swapper = Recorder()
    async with started(swapper, max_batch=2) as batcher:
        first = await held(batcher, swapper)
        rest = [ask(batcher, grey) for grey in (10, 20, 30)]
        await until(lambda: batcher.depth == 3)
        swapper.gate.open()
        await asyncio.gather(first, *rest)
    assert [greys for step, _, greys in swapper.calls if step == "encode"] == [[1], [10, 20], [30]]


async def test_idle_workers_share_what_waits() -> None:
    swapper = Recorder()
    async with started(swapper, workers=2, window_s=0.2) as batcher:
        tasks = [ask(batcher, grey) for grey in (10, 20, 30, 40)]
        await until(lambda: len(swapper.calls) == 2)
        swapper.gate.open()
        await asyncio.gather(*tasks)
    sizes = sorted(len(greys) for step, _, greys in swapper.calls if step == "encode")
    assert sizes == [2, 2]


async def test_a_worker_that_is_free_leaves_a_share_to_one_that_is_nearly() -> None:
    """Seven come while one worker has one: eight are in work or wait, so neither takes more than four."""
    swapper = Recorder()
    async with started(swapper, workers=2) as batcher:
        busy = await held(batcher, swapper)
        tasks = [ask(batcher, grey) for grey in range(10, 80, 10)]
        await until(lambda: len(swapper.calls) == 2)
        swapper.gate.open()
        await asyncio.gather(busy, *tasks)
    sizes = [len(greys) for step, _, greys in swapper.calls if step == "encode"]
    assert max(sizes) <= 4, sizes


async def test_a_window_gathers_what_comes_within_it() -> None:
    swapper = Recorder()
    swapper.gate.open()
    async with started(swapper, window_s=0.6) as batcher:
        first = ask(batcher, 10)
        await asyncio.sleep(0.02)
        await asyncio.gather(first, ask(batcher, 20))
    assert swapper.calls[0] == ("encode", "", [10, 20])


async def test_the_cancelled_and_the_late_are_not_run() -> None:
    swapper = Recorder()
    async with started(swapper) as batcher:
        first = await held(batcher, swapper)
        gone, late, kept = ask(batcher, 10), ask(batcher, 20, within_s=0), ask(batcher, 30)
        await until(lambda: batcher.depth == 3)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert batcher.depth == 2, "a cancelled one leaves the queue at once"
        swapper.gate.open()
        await asyncio.gather(first, kept)
        with pytest.raises(DeadlineError):
            await late
    assert [greys for step, _, greys in swapper.calls if step == "encode"] == [[1], [30]]


async def test_a_broken_decoder_fails_only_its_own_group_and_is_not_tried_again() -> None:
    swapper = Recorder()
    swapper.broken = {("decode", "negative")}
    async with started(swapper) as batcher:
        first = await held(batcher, swapper)
        rest = [ask(batcher, 10), ask(batcher, 20, "negative"), ask(batcher, 30, "negative")]
        await until(lambda: batcher.depth == 3)
        swapper.gate.open()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [type(result) for result in results] == [Swapped, Swapped, BundleError, BundleError]
    assert [call for call in swapper.calls if call[1] == "negative"] == [("decode", "negative", [20, 30])]


async def test_a_face_that_cannot_be_encoded_fails_alone() -> None:
    swapper = Recorder()
    swapper.broken = {("encode", 20)}
    async with started(swapper) as batcher:
        first = await held(batcher, swapper)
        rest = [ask(batcher, 10), ask(batcher, 20), ask(batcher, 30)]
        await until(lambda: batcher.depth == 3)
        swapper.gate.open()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [type(result) for result in results] == [Swapped, Swapped, ValueError, Swapped]


async def test_an_answer_of_the_wrong_length_is_nobodys_face() -> None:
    class Short(FakeSwapper):
        def encode(self, crops: Pixels) -> Latents:
            return super().encode(crops)[:0]

    async with started(Short()) as batcher:
        with pytest.raises(ValueError, match="zip"):
            await ask(batcher, 10)
        assert batcher.dead_workers() == []


async def test_the_clock_tells_queue_encode_and_decode() -> None:
    clock = Clock()
    async with started(FakeSwapper()) as batcher:
        await ask(batcher, 10, clock=clock)
    assert list(clock.spans) == ["queue", "encode", "decode"]


async def test_a_dying_worker_is_told_and_takes_no_request_with_it() -> None:
    def die(*_: object) -> None:
        raise SystemExit

    swapper = FakeSwapper()
    swapper.on_encode = die
    async with started(swapper) as batcher:
        assert batcher.dead_workers() == []
        with pytest.raises(InternalError):
            await ask(batcher, 10)
        await until(lambda: batcher.dead_workers() == ["networks-0"])


def test_a_worker_that_hangs_is_not_live() -> None:
    batcher = Batcher(workers=1, max_batch=1)
    assert batcher.dead_workers() == ["networks-0"], "not started"
    worker = Worker("networks-0", thread=threading.current_thread(), beat=100.0)
    assert worker.is_live(100.0 + STUCK_AFTER_S)
    assert not worker.is_live(101.0 + STUCK_AFTER_S)


async def test_a_stop_finishes_the_running_batch_and_refuses_the_rest() -> None:
    swapper = Recorder()
    async with started(swapper) as batcher:
        first = await held(batcher, swapper)
        second = ask(batcher, 10)
        await until(lambda: batcher.depth == 1)
        stopping = asyncio.create_task(asyncio.to_thread(batcher.stop))
        with pytest.raises(DrainingError):
            await second
        swapper.gate.open()
        assert (await first).pixels[0, 0, 0] == 1
        await stopping
        with pytest.raises(DrainingError):
            await ask(batcher, 20)
