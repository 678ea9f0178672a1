"""Several faces of one crop in the batcher: encoded once, decoded in turns with the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from faceswap.faces import Swapped
from service.errors import DeadlineError, DrainingError
from service.telemetry import Clock
from tests.service.fakes import Gate, until
from tests.service.test_batching import OneBundle, Recorder, ask, held, started

pytestmark = pytest.mark.anyio

NAMES = [f"echo-{number}" for number in range(6)]


@asynccontextmanager
async def wished(
    batcher: OneBundle, grey: int, names: list[str] = NAMES, within_s: float = 20
) -> AsyncIterator[list[asyncio.Future[Swapped]]]:
    crop = np.full((64, 64, 3), grey, np.uint8)
    with batcher.wishes(
        batcher.swapper, crop, {name: Clock() for name in names}, time.monotonic() + within_s
    ) as faces:
        yield faces


def steps(swapper: Recorder, step: str) -> list[tuple[str, list[int]]]:
    return [(identity, greys) for name, identity, greys in swapper.calls if name == step]


async def test_one_crop_is_encoded_once_for_all_its_faces() -> None:
    swapper = Recorder()
    swapper.gate.open()
    async with started(swapper, max_batch=2) as batcher, wished(batcher, 10, [*NAMES, "negative"]) as faces:
        done = await asyncio.gather(*faces)
        assert batcher.depth == 0
    assert [int(face.pixels[0, 0, 0]) for face in done] == [10] * 6 + [245]
    assert steps(swapper, "encode") == [("", [10])]
    assert steps(swapper, "decode") == [(name, [10]) for name in [*NAMES, "negative"]]


async def test_identities_are_grouped_across_crops() -> None:
    swapper = Recorder()
    async with started(swapper) as batcher:
        first = await held(batcher, swapper)
        async with wished(batcher, 10, ["a", "b"]) as tens, wished(batcher, 20, ["b", "c"]) as twenties:
            assert batcher.depth == 4
            swapper.gate.open()
            await asyncio.gather(first, *tens, *twenties)
    assert steps(swapper, "encode")[1:] == [("", [10, 20])]
    assert steps(swapper, "decode")[1:] == [("a", [10]), ("b", [10, 20]), ("c", [20])]


async def test_many_faces_of_one_crop_do_not_hold_up_another() -> None:
    swapper = Recorder()
    async with started(swapper, max_batch=2) as batcher:
        first = await held(batcher, swapper)
        async with wished(batcher, 10) as faces:
            single = ask(batcher, 20)
            await until(lambda: batcher.depth == 7)
            swapper.gate.open()
            await asyncio.gather(first, single, *faces)
    order = [greys[0] for _, greys in steps(swapper, "decode")]
    assert order == [1, 10, 10, 20, 10, 10, 10, 10]
    assert [greys for _, greys in steps(swapper, "encode")] == [[1], [10], [20]]


async def test_another_worker_decodes_what_the_first_has_not_taken() -> None:
    swapper = Recorder()
    async with started(swapper, workers=2) as batcher, wished(batcher, 10) as faces:
        await swapper.gate.reached()
        assert batcher.depth == 0, "half is with the first worker, half waits for the latent"
        both = asyncio.Event()
        names: set[str] = set()
        loop = asyncio.get_running_loop()

        def decoding(_latents: object, identity: str) -> None:
            names.add(identity)
            if {"echo-0", "echo-3"} <= names:
                loop.call_soon_threadsafe(both.set)
            end = time.monotonic() + 20
            while not both.is_set() and time.monotonic() < end:
                time.sleep(0.001)

        swapper.on_decode = decoding
        swapper.gate.open()
        await asyncio.gather(*faces)
    assert both.is_set()
    assert names == set(NAMES)


async def test_a_crop_that_cannot_be_encoded_fails_all_its_faces_and_no_other() -> None:
    swapper = Recorder()
    swapper.broken = {("encode", 10)}
    async with started(swapper, max_batch=4) as batcher:
        first = await held(batcher, swapper)
        async with wished(batcher, 20, ["a"]) as good, wished(batcher, 10) as bad:
            swapper.gate.open()
            results = await asyncio.gather(*bad, return_exceptions=True)
            assert [type(result) for result in results] == [ValueError] * 6
            assert isinstance(await good[0], Swapped)
        await first


async def test_what_nobody_waits_for_is_neither_queued_nor_decoded() -> None:
    swapper = Recorder()
    async with started(swapper, max_batch=2) as batcher:
        first = await held(batcher, swapper)
        async with wished(batcher, 10):
            assert batcher.depth == 6
        assert batcher.depth == 0
        swapper.gate.open()
        await first
        second = swapper.gate = Gate()
        async with wished(batcher, 30):
            await second.reached()
        second.open()
        await ask(batcher, 40)
    assert [greys for _, greys in steps(swapper, "decode")] == [[1], [40]]


async def test_the_late_faces_of_a_crop_are_dropped() -> None:
    swapper = Recorder()
    async with started(swapper, max_batch=2) as batcher:
        first = await held(batcher, swapper)
        async with wished(batcher, 10, within_s=0) as faces:
            swapper.gate.open()
            results = await asyncio.gather(first, *faces, return_exceptions=True)
    assert [type(result) for result in results] == [Swapped] + [DeadlineError] * 6
    assert steps(swapper, "encode") == [("", [1])]


async def test_a_stop_tells_what_comes_back_into_the_queue() -> None:
    swapper = Recorder()
    async with started(swapper, max_batch=2) as batcher, wished(batcher, 10) as faces:
        await swapper.gate.reached()
        stopping = asyncio.create_task(asyncio.to_thread(batcher.stop))
        await asyncio.sleep(0.05)
        swapper.gate.open()
        results = await asyncio.gather(*faces, return_exceptions=True)
        await stopping
    assert [type(result) for result in results] == [Swapped] * 2 + [DrainingError] * 4


async def test_what_came_back_does_not_wait_for_the_window_again() -> None:
    swapper = Recorder()
    swapper.gate.open()
    async with started(swapper, max_batch=2, window_s=60) as batcher, wished(batcher, 10, NAMES[:3]) as faces:
        await asyncio.wait_for(asyncio.gather(*faces), 20)
