"""Live, ready and the state for people."""

from __future__ import annotations

import asyncio

import pytest

from faceswap.errors import BundleError
from faceswap.sessions import Device
from service.lifecycle import Phase
from tests.service.fakes import FakeSwapper, Gate, make_app, parts_of, photo, post, serving, until
from tests.service.test_problems import expect

pytestmark = pytest.mark.anyio


async def test_ready_only_when_warm_and_until_draining() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_warm_up = gate
    app = make_app(swapper)
    async with serving(app, until_warm=False) as client:
        expect(await client.get("/health/ready"), "starting")
        assert (await client.get("/health/live")).json() == {"status": "live"}
        gate.open()
        await until(lambda: parts_of(app).lifecycle.phase is Phase.READY)
        answer = await client.get("/health/ready")
        assert answer.json() == {"status": "ready", "provider": "CPUExecutionProvider"}
        parts_of(app).lifecycle.drain()
        expect(await client.get("/health/ready"), "draining")
        assert (await client.get("/health/live")).status_code == 200


async def test_a_warm_up_that_fails_is_never_ready(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise BundleError("the encoder is damaged")

    swapper = FakeSwapper()
    swapper.on_warm_up = fail
    app = make_app(swapper)
    async with serving(app) as client:
        expect(await client.get("/health/ready"), "starting")
        assert (await client.get("/health")).json()["status"] == "failed"
    assert [r.getMessage() for r in caplog.records if r.name == "faceswapd.app"] == [
        "cannot start: the encoder is damaged"
    ]


async def test_cuda_asked_for_and_not_there_is_never_ready(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(device=Device.CUDA)
    async with serving(app) as client:
        expect(await client.get("/health/ready"), "starting")
    assert "the networks run on CPUExecutionProvider" in caplog.text


async def test_a_dead_worker_turns_live_and_ready_red() -> None:
    def die(*_: object) -> None:
        raise SystemExit

    swapper = FakeSwapper()
    swapper.on_decode = die
    app = make_app(swapper)
    async with serving(app) as client:
        expect(await post(client), "internal-error")
        await until(lambda: bool(parts_of(app).batcher.dead_workers()))
        expect(await client.get("/health/live"), "not-live", "networks-0", "restart")
        expect(await client.get("/health/ready"), "not-live")
        assert (await client.get("/health")).json()["dead_workers"] == ["networks-0"]


async def test_health_answers_while_the_swap_path_is_full() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_find = gate  # every image thread is taken, not only the networks
    app = make_app(swapper, image_threads=1, queue_images=4)
    async with serving(app) as client:
        tasks = [asyncio.create_task(post(client)) for _ in range(4)]
        await gate.reached()
        await until(lambda: parts_of(app).admission.taken == 4)
        expect(await post(client), "queue-full")
        for path in ("/health", "/health/live", "/health/ready"):
            assert (await asyncio.wait_for(client.get(path), 2)).status_code == 200
        assert (await client.get("/health")).json()["photos"] == 4
        gate.open()
        assert {(await task).status_code for task in tasks} == {200}


async def test_health_is_for_people() -> None:
    async with serving(make_app(workers=3)) as client:
        facts = (await client.get("/health")).json()
    assert facts["status"] == "ready"
    assert facts["workers"] == 3
    assert facts["bundle"] == {
        "name": "fake",
        "created": "2026-01-31T12:00:00Z",
        "schema_version": 1,
        "identities": ["echo", "negative"],
    }


async def test_photos_to_be_pasted_into_are_few_at_a_time() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper, photos_in_memory=1, image_threads=2)
    found: list[int] = []
    swapper.on_find = lambda: found.append(1)
    async with serving(app) as client:
        tasks = [asyncio.create_task(post(client, photo(), output="photo")) for _ in range(2)]
        await gate.reached()
        await until(lambda: parts_of(app).admission.taken == 2)
        await asyncio.sleep(0.05)
        assert len(found) == 1
        gate.open()
        assert [(await task).status_code for task in tasks] == [200, 200]
