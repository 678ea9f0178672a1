"""Heads and trailers of requests have a bound; bodies in any pieces pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from service.crowd import Crowd
from service.settings import Settings
from service.wire import MAX_HEAD_BYTES, protocols
from tests.service.fakes import until

pytestmark = pytest.mark.anyio


async def length_of_body(scope: Any, receive: Any, send: Any) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@asynccontextmanager
async def connected(
    state: ServerState | None = None,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(length_of_body, log_config=None, access_log=False)
    state, app_state = state or ServerState(), dict[str, Any]()
    config.load()
    protocol, _ = protocols(Crowd(Settings()))
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config, state, app_state), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), *state.tasks, return_exceptions=True)
            for connection in list(state.connections):
                connection.transport.close()
            await asyncio.sleep(0)


async def status(reader: asyncio.StreamReader) -> bytes:
    return (await asyncio.wait_for(reader.readline(), 10))[9:12]


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


async def test_a_head_without_an_end_is_cut_off() -> None:
    async with connected() as (reader, writer):
        writer.write(HEAD)
        for _ in range(MAX_HEAD_BYTES // 1024 + 1):
            writer.write(b"x-more: " + b"y" * 1014 + b"\r\n")
            await writer.drain()
        assert await status(reader) == b"400"
        assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"too long.")


async def test_one_header_without_an_end_is_cut_off() -> None:
    async with connected() as (reader, writer):
        writer.write(HEAD + b"x-more: ")
        for _ in range(MAX_HEAD_BYTES // 1024 + 1):
            writer.write(b"y" * 1024)
            await writer.drain()
        assert await status(reader) == b"400"


async def test_trailers_without_an_end_are_cut_off() -> None:
    state = ServerState()
    async with connected(state) as (reader, writer):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
        await until(lambda: bool(state.tasks))  # what comes in one piece with the body does not count
        for _ in range(MAX_HEAD_BYTES // 1024 + 1):
            writer.write(b"x-more: " + b"y" * 1014 + b"\r\n")
            await writer.drain()
        assert await status(reader) == b"400"


async def test_a_long_body_passes_in_many_small_pieces() -> None:
    """Their frames alone are longer than a head may be."""
    chunks = MAX_HEAD_BYTES // 4
    async with connected() as (reader, writer):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(chunks):
            writer.write(b"1\r\nx\r\n")
        await writer.drain()
        writer.write(b"0\r\n\r\n")
        assert await status(reader) == b"200"
        answer = await asyncio.wait_for(reader.readuntil(str(chunks).encode()), 10)
        assert answer


async def test_many_requests_on_one_connection_pass() -> None:
    async with connected() as (reader, writer):
        for _ in range(3):
            writer.write(HEAD + b"x-more: " + b"y" * 40_000 + b"\r\nContent-Length: 2\r\n\r\nab")
            assert await status(reader) == b"200"
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n2"), 10)
