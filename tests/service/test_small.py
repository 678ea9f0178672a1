"""Small swaps are done whole by the thread that runs the networks; what is not small never comes there."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import numpy as np
import pytest

from faceswap.errors import TruncatedImageError
from faceswap.faces import Crop, Image, Pixels, Swapped
from service.errors import DeadlineError
from service.inference import Job
from service.small import SMALL_BYTES
from service.telemetry import Clock
from tests.service.fakes import FakeSwapper, Gate, make_app, opened, parts_of, photo, post, serving, until
from tests.service.test_batching import Recorder, started
from tests.service.test_problems import expect

pytestmark = pytest.mark.anyio


class Watched(FakeSwapper):
    """Notes on which thread a ready crop was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []

    def ready_crop(self, image: Image) -> Crop:
        self.threads.append(threading.current_thread().name.partition("-")[0].partition("_")[0])
        return super().ready_crop(image)


class OnCuda(Watched):
    provider = "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("data", "query", "thread"),
    [
        (photo(), {}, "networks"),
        (photo(format="JPEG"), {"format": "webp"}, "networks"),
        (photo(format="WEBP"), {}, "images"),
        (photo(), {"output": "photo"}, "images"),
        (photo() + bytes(SMALL_BYTES), {}, "images"),
    ],
)
async def test_where_a_ready_crop_is_read(data: bytes, query: dict[str, str], thread: str) -> None:
    swapper = Watched()
    async with serving(make_app(swapper)) as client:
        answer = await post(client, data, crop="none", **query)
    assert answer.status_code == 200
    assert swapper.threads == [thread]


async def test_a_card_does_not_wait_for_pictures() -> None:
    swapper = OnCuda()
    async with serving(make_app(swapper)) as client:
        assert (await post(client, crop="none")).status_code == 200
    assert swapper.threads == ["images"]


async def test_few_bytes_with_many_pixels_are_refused_elsewhere() -> None:
    swapper = Watched()
    flat = photo((2500, 2500), grey=90)
    assert len(flat) < SMALL_BYTES
    async with serving(make_app(swapper)) as client:
        expect(await post(client, flat, crop="none"), "wrong-crop-size", "2500x2500")
    assert swapper.threads == ["images"]
    async with serving(make_app(Watched(), max_pixels=4096)) as client:
        expect(await post(client, flat, crop="none"), "image-too-large")


async def test_its_steps_are_told_as_ever() -> None:
    async with serving(make_app()) as client:
        answer = await post(client, crop="none")
    steps = [step.partition(";")[0] for step in answer.headers["server-timing"].split(", ")]
    assert steps == ["read", "detect", "queue", "encode", "decode", "write"]


async def test_the_wait_for_the_others_of_a_batch_is_time_in_the_queue() -> None:
    clocks = [Clock(), Clock()]
    async with started(FakeSwapper(), window_s=0.2) as batcher:

        def slow() -> Pixels:
            time.sleep(0.05)
            return np.zeros((64, 64, 3), np.uint8)

        job = Job(slow, lambda face: face)
        end = time.monotonic() + 20
        jobs = [batcher.run(batcher.swapper, job, "echo", end, clock) for clock in clocks]
        await asyncio.gather(*jobs)
    assert all(clock.spans["queue"] >= 0.2 + 0.05 - 0.01 for clock in clocks), "the window and the other one"


async def test_what_fails_in_a_batch_fails_alone() -> None:
    """One cannot be read, one cannot be written; their neighbours do not notice."""
    swapper = Recorder()

    def crop(grey: int) -> Pixels:
        if grey == 20:
            raise TruncatedImageError("the picture breaks off")
        return np.full((64, 64, 3), grey, np.uint8)

    def finish(face: Swapped) -> str:
        if face.pixels[0, 0, 0] == 30:
            raise ZeroDivisionError
        return f"face {face.pixels[0, 0, 0]}"

    async with started(swapper) as batcher:

        def ask(grey: int) -> asyncio.Task[str]:
            job = Job(lambda: crop(grey), finish)
            work = batcher.run(swapper, job, "echo", time.monotonic() + 20, Clock())
            return asyncio.ensure_future(work)

        first = ask(1)
        await swapper.gate.reached()
        rest = [ask(grey) for grey in (10, 20, 30, 40)]
        await until(lambda: batcher.depth == 4)
        swapper.gate.open()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [str(result) if isinstance(result, str) else type(result) for result in results] == [
        "face 1", "face 10", TruncatedImageError, ZeroDivisionError, "face 40",
    ]  # fmt: skip
    assert swapper.calls[2:] == [("encode", "", [10, 30, 40]), ("decode", "echo", [10, 30, 40])]


async def test_damaged_crops_beside_good_ones_over_http() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper)
    good = [photo(grey=grey) for grey in (30, 60, 90)]
    async with serving(app) as client:
        first = asyncio.create_task(post(client, good[0], crop="none"))
        await gate.reached()
        datas = [good[1], photo()[:150], b"\x89PNG\r\n\x1a\nnothing more", good[2]]
        tasks = [asyncio.create_task(post(client, data, crop="none")) for data in datas]
        await until(lambda: parts_of(app).batcher.depth == 4)
        gate.open()
        answers: list[httpx.Response] = await asyncio.gather(first, *tasks)
    for answer, grey in zip((answers[0], answers[1], answers[4]), (30, 60, 90), strict=True):
        assert np.asarray(opened(answer.content)).max() == grey
    for answer in answers[2:4]:
        expect(answer, "truncated-image")


async def test_the_deadline_of_a_small_swap() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    async with serving(make_app(swapper, deadline_ms=50)) as client:
        expect(await post(client, crop="none"), "deadline")
        gate.open()


async def test_the_late_one_is_not_even_read() -> None:
    swapper = Recorder()
    read: list[int] = []

    def late() -> Pixels:
        read.append(1)
        return np.zeros((64, 64, 3), np.uint8)

    async with started(swapper) as batcher:
        now = time.monotonic()
        first = asyncio.ensure_future(
            batcher.swap(swapper, np.zeros((64, 64, 3), np.uint8), "echo", now + 20, Clock())
        )
        await swapper.gate.reached()
        second = asyncio.ensure_future(
            batcher.run(swapper, Job(late, lambda face: face), "echo", now, Clock())
        )
        await until(lambda: batcher.depth == 1)
        swapper.gate.open()
        with pytest.raises(DeadlineError):
            await second
        await first
    assert read == []
