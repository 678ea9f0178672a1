"""The short way to a swap: what FastAPI would have made of the request, and refusals that read no body."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Query, Response
from starlette.types import Receive, Scope, Send

from service.queries import KNOWN, read_query
from service.schemas import SwapQuery
from service.shortcut import Shortcut
from tests.service.fakes import FakeSwapper, listening, make_app, parts_of, photo, post, serving, until
from tests.service.test_problems import expect

pytestmark = pytest.mark.anyio

PIECES = (
    "target=echo", "target=a,b", "target=a%2C%20b&target=c", "target=", "target", "TARGET=a",
    "target=%ff", "target=a+b", "target=a;crop=none", "%74arget=echo", "", "x=1",
    "crop=none", "crop=", "crop=auto&crop=none", "face=1", "face=%2B1", "face=1.0", "face=01",
    "output=photo", "format=jpeg", "format=JPEG",
)  # fmt: skip


def by_fastapi() -> FastAPI:
    """Answers the query as FastAPI has read it."""
    app = FastAPI()

    @app.post("/swap")
    async def swap(query: Annotated[SwapQuery, Query()]) -> SwapQuery:
        return query

    return app


async def test_a_query_is_read_as_fastapi_reads_it() -> None:
    texts = ["&".join(some) for count in (1, 2, 3) for some in itertools.combinations(PIECES, count)]
    taken = 0
    async with httpx.AsyncClient(transport=httpx.ASGITransport(by_fastapi()), base_url="http://s") as client:
        for text in texts:
            query = read_query(text.encode())
            if query is not None:
                answer = await client.post(httpx.URL("http://s/swap", query=text.encode()))
                assert answer.status_code == 200, text
                assert SwapQuery.model_validate(answer.json()) == query, text
                taken += 1
    assert taken > 100


async def test_swaps_do_not_come_to_the_framework_but_all_else_does() -> None:
    came: list[str] = []

    async def framework(scope: Scope, receive: Receive, send: Send) -> None:
        came.append(f"{scope['method']} {scope['path']}?{scope['query_string'].decode()}")
        await Response(status_code=418)(scope, receive, send)

    app = make_app()
    async with serving(app):
        short = Shortcut(framework, parts_of(app))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(short), base_url="http://s") as client:
            assert (await post(client, crop="none")).status_code == 200
            assert came == []
            await post(client, face=-1)
            await client.get("/swap?target=echo")
            await client.post("/swap/batch?target=echo")
    assert came == ["POST /swap?target=echo&face=-1", "GET /swap?target=echo", "POST /swap/batch?target=echo"]


async def test_any_number_of_queries_is_read() -> None:
    app = make_app()
    async with serving(app) as client:
        for number in range(KNOWN + 2):
            answer = await client.post(f"/swap?target=nobody-{number}")
            expect(answer, "unknown-identity", f"'nobody-{number}'")
        assert (await post(client)).status_code == 200


async def test_a_full_service_says_so_before_it_reads_the_body() -> None:
    async def never() -> AsyncIterator[bytes]:
        for read in (True,):
            assert not read, "the body was read"
            yield b""

    app = make_app(queue_images=1)
    async with serving(app) as client:
        with parts_of(app).admission.place(1):
            expect(await client.post("/swap?target=echo", content=never()), "queue-full")


@pytest.mark.parametrize("size", [100, 300_000])
async def test_a_connection_that_was_refused_is_used_again(size: int) -> None:
    app = make_app(FakeSwapper(), queue_images=1)
    headers = {"Content-Type": "image/png"}
    with listening(app) as (port, parts):
        await until(lambda: parts.lifecycle.phase == "ready")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            streams: list[Any] = []
            for full in (True, False):
                with parts.admission.place(1) if full else _nothing():
                    body = b"x" * size if full else photo()
                    answer = await client.post("/swap?target=echo&crop=none", content=body, headers=headers)
                streams.append(answer.extensions["network_stream"].get_extra_info("client_addr"))
                assert answer.status_code == (503 if full else 200)
            assert streams[0] == streams[1], "the same connection"


@contextmanager
def _nothing() -> Iterator[None]:
    yield
