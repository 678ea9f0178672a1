"""unless_gone: work ends when the client leaves, and only then does it look like that."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from service.uploads import unless_gone

pytestmark = pytest.mark.anyio


class Client:
    """Leaves, or breaks, when it is told to."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.error: Exception | None = None
        self.request = Request({"type": "http"}, self._receive)

    async def _receive(self) -> Message:
        await self.leaves.wait()
        if self.error:
            raise self.error
        return {"type": "http.disconnect"}


async def for_ever(ended: list[str]) -> None:
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise


async def test_the_result_comes_where_the_client_stays() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 3

    assert await unless_gone(Client().request, work()) == 3


async def test_an_error_of_the_work_is_passed_on() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await unless_gone(Client().request, work())


@pytest.mark.parametrize("error", [None, OSError("the line is dead")])
async def test_the_work_ends_with_the_client(error: Exception | None) -> None:
    client, ended = Client(), list[str]()
    client.error = error
    asyncio.get_running_loop().call_later(0.02, client.leaves.set)
    with pytest.raises(ClientDisconnect):
        await unless_gone(client.request, for_ever(ended))
    assert ended == ["cancelled"]
    await asyncio.sleep(0.01)  # no cancellation is left behind


async def test_who_is_cancelled_from_outside_is_cancelled() -> None:
    client, ended = Client(), list[str]()
    task = asyncio.ensure_future(unless_gone(client.request, for_ever(ended)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    both = asyncio.ensure_future(unless_gone(client.request, for_ever(ended)))
    await asyncio.sleep(0.01)
    client.leaves.set()
    both.cancel()
    with pytest.raises((asyncio.CancelledError, ClientDisconnect)):
        await both
    assert ended == ["cancelled", "cancelled"]


async def test_a_client_that_leaves_with_its_answer_done_takes_nothing_along() -> None:
    client = Client()

    async def work() -> int:
        client.leaves.set()
        return 3

    assert await unless_gone(client.request, work()) == 3
    await asyncio.sleep(0.01)


async def test_a_timeout_around_it_stays_a_timeout() -> None:
    client, ended = Client(), list[str]()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await unless_gone(client.request, for_ever(ended))
    assert ended == ["cancelled"]
