"""Slow bodies hold places; where they hold most of them, they make room. Busy places never do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from service.admission import Admission
from service.errors import BodyMadeRoomError, QueueFullError
from tests.service.fakes import FakeSwapper, Gate, make_app, nothing, parts_of, photo, post, serving, until
from tests.service.sockets import connected
from tests.service.test_problems import expect

pytestmark = pytest.mark.anyio


class SlowBody:
    """Of which a part has come."""

    def __init__(self) -> None:
        self.rest = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield photo()[:100]
        await self.rest.wait()
        yield photo()[100:]

    async def post(self, client: httpx.AsyncClient) -> httpx.Response:
        headers = {"Content-Type": "image/png"}
        return await client.post("/swap?target=echo", content=aiter(self), headers=headers)


async def test_slow_bodies_make_room_for_those_that_come_after_them() -> None:
    app = make_app(queue_images=3)
    admission = parts_of(app).admission
    async with serving(app) as client:
        bodies = [SlowBody() for _ in range(3)]
        tasks = []
        for number, body in enumerate(bodies):
            tasks.append(asyncio.create_task(body.post(client)))
            await until(lambda taken=number: len(admission.coming) == taken + 1)  # type: ignore[misc]
        expect(await post(client), "queue-full")  # they have come for a moment only
        admission.body_grace_s = 0.0
        assert (await post(client)).status_code == 200
        expect(await tasks[0], "body-made-room")
        assert admission.taken == 2
        for body in bodies[1:]:
            body.rest.set()
        assert [(await task).status_code for task in tasks[1:]] == [200, 200]
        assert admission.taken == 0 and not admission.coming and admission._bytes == 0


async def test_the_slowest_goes_first_and_what_creeps_goes_soon() -> None:
    admission = Admission(images=3, body_bytes=10**9)
    gone, never = list[str](), asyncio.Event()

    async def body(name: str, age_s: float, received: int) -> None:
        with admission.place(1000) as place:
            coming = asyncio.create_task(place.filled(never.wait()))
            await asyncio.sleep(0)
            place.coming_since -= age_s
            place.heard(received)
            with pytest.raises(BodyMadeRoomError):
                await coming
            gone.append(name)

    bodies = [("old", 30.0, 6_000_000), ("creeps", 0.6, 10), ("fresh", 0.4, 10)]
    async with asyncio.TaskGroup() as tasks:
        for each in bodies:
            tasks.create_task(body(*each))
        await until(lambda: len(admission.coming) == 3)
        with admission.place(1000):
            await until(lambda: gone == ["creeps"])
        with admission.place(1000), admission.place(1000):
            await until(lambda: gone == ["creeps", "old"])
            with pytest.raises(QueueFullError), admission.place(1000):
                pass
        for place in admission.coming:
            place.coming_since -= 10
        admission.images = 1
        with admission.place(1000):
            await until(lambda: gone == ["creeps", "old", "fresh"])


async def test_bytes_that_are_announced_and_do_not_come_make_room_too() -> None:
    app = make_app(queue_bytes=30_000_000)
    admission = parts_of(app).admission
    admission.body_grace_s = 0.0
    async with serving(app) as client:
        slow = asyncio.create_task(SlowBody().post(client))  # of unknown length: counts as 20 MB
        await until(lambda: len(admission.coming) == 1)
        fast = SlowBody()
        fast.rest.set()
        assert (await fast.post(client)).status_code == 200
        expect(await slow, "body-made-room")


async def test_places_with_work_in_them_are_never_taken() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper, queue_images=3)
    admission = parts_of(app).admission
    admission.body_grace_s = 0.0
    async with serving(app) as client:
        working = [asyncio.create_task(post(client)) for _ in range(2)]
        await gate.reached()
        await until(lambda: admission.taken == 2)
        slow = SlowBody()
        waiting = asyncio.create_task(slow.post(client))
        await until(lambda: len(admission.coming) == 1)
        expect(await post(client), "queue-full")  # the service is busy, and one slow body is not the reason
        swapper.on_encode = nothing
        gate.open()
        slow.rest.set()
        assert [(await task).status_code for task in (*working, waiting)] == [200, 200, 200]
        assert admission.taken == 0


async def test_a_silent_stream_gives_its_seat_to_one_that_comes() -> None:
    app = make_app(streams=2)
    seats = parts_of(app).seats
    async with serving(app), connected(app) as silent, connected(app) as busy:
        await until(lambda: seats.taken == 2)
        async with connected(app) as newcomer:
            assert await newcomer.problem() == "streams-full"  # nobody has been silent for long
            await newcomer.message()
        seats.silence_s = 0.05
        await asyncio.sleep(0.1)
        busy.send(photo())
        await busy.report()
        async with connected(app) as newcomer:
            code, reason = await silent.closed()
            assert code == 1001 and "another stream" in reason
            newcomer.send(photo())
            await newcomer.report()
            assert seats.taken == 2
            await busy.picture()
            busy.send(photo())
            await busy.report()
    assert seats.taken == 0
