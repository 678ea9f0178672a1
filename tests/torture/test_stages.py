"""An error in each stage of a swap: a problem for that request, a face for the next, nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from faceswap.errors import BundleError, DeviceError
from faceswap.faces import Crop, Face, Image, Pixels
from tests.service.fakes import FakeSwapper, make_app, parts_of, photo, post, serving, until
from tests.service.tensors import as_json, crops
from tests.torture.sizes import Tally

pytestmark = pytest.mark.anyio

ERRORS: list[Callable[[], BaseException]] = [
    lambda: ZeroDivisionError("secret"),
    lambda: MemoryError("secret"),
    lambda: RecursionError("secret"),
    lambda: BundleError("secret"),
    lambda: DeviceError("secret"),
]


class Faulty(FakeSwapper):
    """Raises `error` in the step `at`."""

    def __init__(self) -> None:
        super().__init__()
        self.at, self.error = "", ERRORS[0]
        self.on_find = self.fault("find")
        self.on_load = self.fault("load")
        self.on_encode = self.fault("encode")
        self.on_decode = self.fault("decode")

    def fault(self, step: str) -> Callable[..., None]:
        def maybe(*_: object) -> None:
            if self.at == step:
                raise self.error()

        return maybe

    def align(self, image: Image, face: Face) -> Crop:
        self.fault("align")()
        return super().align(image, face)

    def ready_crop(self, image: Image) -> Crop:
        self.fault("ready crop")()
        return super().ready_crop(image)

    def pasted(
        self, photo: Image, crop: Crop, face: Pixels, mask: Pixels | None = None
    ) -> AbstractContextManager[Image]:
        self.fault("paste")()
        return super().pasted(photo, crop, face, mask)


STEPS = ["find", "align", "ready crop", "load", "encode", "decode", "paste"]


async def ask(client: httpx.AsyncClient, way: str, step: str) -> list[int]:
    """The statuses of what goes through `step`, by one of the ways there are."""
    query: dict[str, Any] = {"output": "photo" if step == "paste" else "face"}
    query["crop"] = "none" if step == "ready crop" else "auto"
    if way == "swap":
        return [(await post(client, **query)).status_code]
    if way == "tensors":
        return [(await client.post("/v2/models/echo/infer", content=as_json(crops(3)))).status_code]
    if way == "several":
        answer = await post(client, target="echo,negative", **query)
    else:
        files = [("image", ("a.png", photo(), "image/png"))] * 3
        answer = await client.post("/swap/batch", params={"target": "echo", **query}, files=files)
    if answer.status_code != 200:
        return [answer.status_code]
    return [result["status"] for result in answer.json()["results"]]


@pytest.mark.parametrize("way", ["swap", "several", "batch", "tensors"])
@pytest.mark.parametrize("step", STEPS)
async def test_an_error_in(step: str, way: str, tally: Tally) -> None:
    if way == "tensors" and step in ("find", "align", "ready crop", "paste"):
        pytest.skip("tensors do not go through it")
    swapper = Faulty()
    app = make_app(swapper)
    async with serving(app) as client:
        for error in ERRORS:
            swapper.at, swapper.error = step, error
            if step == "load":
                swapper.decoders.cold = {"echo", "negative"}
            assert set(await ask(client, way, step)) == {500}
            swapper.at = ""
            assert set(await ask(client, way, step)) == {200}
            assert (await client.get("/health/live")).status_code == 200
            tally.note("an exception in each stage", faults=1, came_back=1)
        parts = parts_of(app)
        await until(lambda: parts.admission.taken == 0 and not swapper.held and parts.batcher.depth == 0)


@pytest.mark.parametrize("step", ["encode", "decode"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_dies_turns_liveness_red(step: str, tally: Tally) -> None:
    """Its requests are answered, and the other thread goes on until the process is replaced."""
    swapper = Faulty()
    app = make_app(swapper, workers=2)
    async with serving(app) as client:
        swapper.at, swapper.error = step, lambda: SystemExit()
        assert (await post(client)).status_code == 500
        swapper.at = ""
        await until(lambda: bool(parts_of(app).batcher.dead_workers()))  # it answers, then it ends
        answers = [await client.get(path) for path in ("/health/live", "/health/ready", "/v2/health/live")]
        assert [answer.status_code for answer in answers] == [503] * 3
        assert [(await post(client)).status_code for _ in range(3)] == [200] * 3
    tally.note("a worker thread killed", faults=1, liveness_red=1)


async def test_cancelled_clients_leave_nothing_behind(tally: Tally) -> None:
    swapper = Faulty()
    app = make_app(swapper, batch_window_ms=5)
    async with serving(app) as client:
        for delay in range(40):
            task = asyncio.create_task(
                ask(client, ["swap", "several", "batch", "tensors"][delay % 4], "decode")
            )
            await asyncio.sleep(delay / 4000)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            tally.note("clients that leave", requests=1)
        parts = parts_of(app)
        await until(lambda: parts.admission.taken == 0 and not swapper.held and parts.batcher.depth == 0)
        assert await ask(client, "swap", "decode") == [200]
