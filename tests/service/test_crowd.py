"""Real sockets that are slow, idle or too many; what a service with a crowd before it does about them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from service.crowd import Crowd, Pace, allow_files
from service.settings import Settings
from service.wire import protocols
from tests.service.fakes import until

pytestmark = pytest.mark.anyio

LARGE = bytes(8_000_000)
"""More than any socket buffer takes."""


@dataclass
class Service:
    """An app behind a crowd, swept by the test itself: `later` tells the crowd that time has passed."""

    crowd: Crowd
    address: tuple[str, int] = ("", 0)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    lines: list[Line] = field(default_factory=list)
    passed_s: float = 0.0

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                await send({"type": "websocket.send", "bytes": LARGE})
            return
        if scope["path"] == "/waits":
            await self.gate.wait()
        if scope["path"] == "/body":
            await Request(scope, receive).body()
        data = LARGE if scope["path"] == "/large" else b"fine"
        await PlainTextResponse(data)(scope, receive, send)

    def later(self, seconds: float) -> None:
        self.passed_s += seconds
        self.crowd.sweep(asyncio.get_running_loop().time() + self.passed_s)

    async def client(self, receive_buffer: int | None = None) -> Line:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        line = Line(*await asyncio.open_connection(sock=sock, limit=1024 if receive_buffer else 65536))
        self.lines.append(line)
        return line


@dataclass
class Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, text: str) -> None:
        self.writer.write(text.encode())

    def ask(self, path: str, method: str = "GET", more: str = "") -> None:
        self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n")

    async def head(self) -> str:
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode()

    async def status(self, path: str) -> int:
        self.ask(path)
        head = await self.head()
        await asyncio.wait_for(self.reader.readexactly(len("fine")), 10)
        return int(head.split()[1])

    async def rest(self) -> bytes:
        """Until the other end closes."""
        try:
            return await asyncio.wait_for(self.reader.read(-1), 10)
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Service]:
    service = Service(Crowd(Settings(**settings)))
    http, websockets = protocols(service.crowd)
    config = uvicorn.Config(
        service.app,
        interface="asgi3",
        http=http,
        ws=websockets,
        log_config=None,
        access_log=False,
        ws_per_message_deflate=False,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: http(config, state, {}), "127.0.0.1", 0)
    async with server:
        service.address = server.sockets[0].getsockname()
        try:
            yield service
        finally:
            service.gate.set()
            for connection in list(state.connections):
                connection.transport.abort()
            for line in service.lines:
                line.writer.transport.abort()
            await asyncio.gather(*state.tasks, return_exceptions=True)
            await asyncio.sleep(0.01)


async def test_a_head_that_does_not_end_is_answered_and_closed() -> None:
    async with running(head_timeout_s=1000) as service:
        slow, silent = await service.client(), await service.client()
        slow.send("GET / HTTP/1.1\r\nHost: x\r\n")
        await until(lambda: len(service.crowd) == 2)
        await asyncio.sleep(0.05)
        service.later(900)
        assert len(service.crowd) == 2
        slow.send("X-More: 1\r\n")  # a line now and then does not help
        await asyncio.sleep(0.05)
        service.later(200)
        head = await slow.head()
        problem = json.loads(await slow.rest())
        assert head.startswith("HTTP/1.1 408 ") and "application/problem+json" in head
        assert problem["type"] == "/problems/head-timeout"
        assert await silent.rest() == b"", "who said nothing is told nothing"
        assert service.crowd.closed == {"slow head": 2} and len(service.crowd) == 0


async def test_the_second_head_of_a_connection_has_the_same_time() -> None:
    async with running(head_timeout_s=1000) as service:
        line = await service.client()
        assert await line.status("/") == 200
        service.later(900)
        assert await line.status("/") == 200
        line.send("GET /")
        await asyncio.sleep(0.05)
        service.later(1100)
        assert "408" in await line.head()


async def test_a_body_that_nobody_waits_for_is_cut_off_by_its_pace() -> None:
    async with running(body_timeout_s=1000, slowest_bytes_per_s=10) as service:
        line = await service.client()
        line.ask("/body", "POST", "Content-Length: 100000\r\n")
        await until(lambda: len(service.crowd) == 1)
        await asyncio.sleep(0.05)
        service.later(0)
        for _ in range(2):
            line.send("x" * 20_000)  # in 1,100 s that is enough
            await asyncio.sleep(0.05)
            service.later(1100)
        assert service.crowd.closed == {}
        line.send("x" * 1000)
        await asyncio.sleep(0.05)
        service.later(1100)
        assert service.crowd.closed == {"slow body": 1}
        assert await line.rest() == b""


async def test_a_request_that_is_in_work_is_left_alone() -> None:
    async with running() as service:
        line = await service.client()
        line.ask("/waits")
        await asyncio.sleep(0.05)
        service.later(0)
        service.later(100_000)
        assert service.crowd.closed == {}
        service.gate.set()
        assert "200" in await line.head()


async def test_who_does_not_read_the_answer_is_cut_off() -> None:
    async with running(answer_timeout_s=1000) as service:
        line = await service.client(receive_buffer=4096)
        line.ask("/large")
        await until(lambda: _waiting(service) > 0)
        service.later(0)
        service.later(900)
        assert len(service.crowd) == 1
        service.later(200)
        assert service.crowd.closed == {"slow reader": 1} and len(service.crowd) == 0


async def test_who_reads_in_drops_is_cut_off_and_who_reads_well_is_not() -> None:
    async with running(answer_timeout_s=1000, slowest_bytes_per_s=10) as service:
        drops, well = await service.client(receive_buffer=4096), await service.client(receive_buffer=65536)
        for line in (drops, well):
            line.ask("/large")
        await until(lambda: _waiting(service) > 2_000_000)
        service.later(0)
        for _ in range(3):
            await drops.reader.read(100)
            for _ in range(40):
                await well.reader.read(65536)
            await asyncio.sleep(0.05)
            service.later(1100)
        assert service.crowd.closed == {"slow reader": 1}
        assert len(service.crowd) == 1
        await asyncio.wait_for(well.reader.readuntil(b"\0"), 10)


async def test_a_stream_whose_client_does_not_read_gives_its_place_back() -> None:
    async with running(answer_timeout_s=1000) as service:
        line = await service.client(receive_buffer=4096)
        line.ask(
            "/stream",
            more="Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )
        assert "101" in await line.head()
        assert len(service.crowd) == 1
        line.writer.write(b"\x82\x81\0\0\0\0x")  # a masked binary message of one byte
        await until(lambda: _waiting(service) > 0)
        service.later(0)
        service.later(1100)
        assert service.crowd.closed == {"slow reader": 1} and len(service.crowd) == 0


async def test_answers_that_wait_are_bounded_in_memory() -> None:
    async with running(answer_bytes=10_000_000) as service:
        lines = [await service.client(receive_buffer=4096) for _ in range(3)]
        for line in lines:
            line.ask("/large")
        await until(lambda: _waiting(service) > 12_000_000)
        service.later(0)
        await asyncio.sleep(0.01)
        assert 0 < _waiting(service) <= 10_000_000
        assert set(service.crowd.closed) == {"memory of answers"}


def _waiting(service: Service) -> int:
    return sum(connection.transport.get_write_buffer_size() for connection in service.crowd._homes)


async def test_idle_connections_make_room_for_new_ones() -> None:
    async with running(connections=10) as service:
        idle = [await service.client() for _ in range(10)]
        kept = idle[0]
        assert await kept.status("/") == 200  # now it is the youngest of the idle
        for _ in range(5):
            fresh = await service.client()
            assert await fresh.status("/") == 200
        assert len(service.crowd) == 10
        assert await kept.status("/") == 200
        assert [await line.rest() for line in idle[1:6]] == [b""] * 5, "the longest idle went first"
        assert service.crowd.closed == {"room": 5}


async def test_where_all_are_busy_the_newcomer_is_told() -> None:
    async with running(connections=8) as service:
        busy = [await service.client() for _ in range(8)]
        for line in busy:
            line.ask("/waits")
        await until(lambda: not service.crowd._idle)
        assert len(service.crowd) == 8
        fresh = await service.client()
        head, body = await fresh.head(), await fresh.rest()
        assert head.startswith("HTTP/1.1 503 ") and "Retry-After: 1" in head
        assert json.loads(body)["type"] == "/problems/connections-full"
        service.gate.set()
        assert all(["200" in await line.head() for line in busy])
        assert "200" in str(await (await service.client()).status("/"))


async def test_a_newcomer_that_still_sends_can_read_why_it_is_refused() -> None:
    async with running(connections=8) as service:
        for line in [await service.client() for _ in range(8)]:
            line.ask("/waits")
        await until(lambda: not service.crowd._idle)
        fresh = await service.client()
        for _ in range(8):  # a close over these would take the answer away
            fresh.send("x" * 65536)
            await asyncio.sleep(0.02)
        assert (await fresh.head()).startswith("HTTP/1.1 503 ")
        assert json.loads(await fresh.rest())["type"] == "/problems/connections-full"
        assert service.crowd.lingering == 1
        fresh.writer.close()
        await until(lambda: service.crowd.lingering == 0)
        stays = await service.client()
        await stays.head()
        await stays.rest()
        assert service.crowd.lingering == 1
        await until(lambda: service.crowd.lingering == 0)  # also where nobody hangs up


async def test_who_stops_has_one_more_answer_for_each_connection() -> None:
    async with running() as service:
        line = await service.client()
        assert await line.status("/") == 200
        service.crowd.leaving = True
        line.ask("/")
        assert "connection: close" in (await line.head()).lower()
        assert await line.rest() == b"fine"


async def test_one_address_takes_the_room_of_its_own_connections_only() -> None:
    async with running(connections=100, connections_per_address=3) as service:
        lines = [await service.client() for _ in range(5)]
        await until(lambda: service.crowd.closed["room"] == 2)
        assert len(service.crowd) == 3
        assert await lines[-1].status("/") == 200


async def test_a_trusted_proxy_speaks_for_many() -> None:
    settings = {"connections_per_address": 3, "trusted_proxies": ("127.0.0.1",)}
    async with running(**settings) as service:
        for _ in range(6):
            assert await (await service.client()).status("/") == 200
        assert len(service.crowd) == 6


async def test_500_idle_sockets_keep_nobody_out() -> None:
    async with running(connections=300, connections_per_address=300) as service:
        lines = [await service.client() for _ in range(500)]
        await until(lambda: service.crowd.closed["room"] >= 200)
        assert len(service.crowd) <= 300
        for _ in range(20):
            assert await (await service.client()).status("/") == 200
        for line in lines:
            line.writer.close()
        await until(lambda: len(service.crowd) < 300)
        assert len(service.crowd._at_home) <= 1, "an address with no connection is not kept"


def test_a_pace_is_asked_over_whole_windows() -> None:
    pace = Pace()
    assert not pace.is_slow(0, 0, 10, 100)
    assert not pace.is_slow(9, 10, 10, 100)
    assert pace.is_slow(10, 999, 10, 100)
    assert not pace.is_slow(20, 1999, 10, 100)
    pace.rest()
    assert not pace.is_slow(100, 1999, 10, 100)
    still = Pace()
    assert not still.is_slow(0, 5, 10, 0)
    assert still.is_slow(10, 5, 10, 0), "with no least pace only a stop counts"


def test_open_files_are_allowed_as_far_as_the_system_lets() -> None:
    assert allow_files(8) >= 8
