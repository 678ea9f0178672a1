"""Refusals at the head of a request: the very answer that the app gives, for those who want no more."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service import shedding
from service.admission import CREEPING_S
from service.parts import Parts
from tests.service.fakes import FakeSwapper, Gate, listening, make_app, photo, until

pytestmark = pytest.mark.anyio

TARGET = "/swap?target=echo&crop=none"
SMALL = b"x" * 100


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def without_what_differs(self) -> object:
        """Of two answers to the same question: the time, and the ids."""
        told = {**self.headers, "date": "", "x-request-id": ""}
        return self.status, told, json.loads(self.body) | {"request_id": ""}


@dataclass
class Line:
    """A connection, with words as they stand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, target: str = TARGET, body: bytes = SMALL, method: str = "POST", **more: str) -> None:
        fields = {"Host": "s", "Content_Type": "image/png", "Content_Length": str(len(body)), **more}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.writer.write("\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode() + body)

    async def answer(self) -> Answer:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)).decode()
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), 20)
        return Answer(int(first.split()[1]), headers, body)

    async def ask(self, target: str = TARGET, body: bytes = SMALL, **more: str) -> Answer:
        self.send(target, body, **more)
        return await self.answer()


class Spy:
    """A layer that counts the requests which come to the app."""

    def __init__(self, app: ASGIApp, came: list[str]) -> None:
        self._app, self._came = app, came

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._came.append(scope["path"])
        await self._app(scope, receive, send)


@dataclass
class Service:
    """One with three places, all of them taken, which has had a good swap before."""

    parts: Parts
    came: list[str]
    port: int
    held: ExitStack
    lines: list[Line] = field(default_factory=list)

    async def line(self, receive_buffer: int | None = None) -> Line:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        self.lines.append(Line(*await asyncio.open_connection(sock=sock)))
        return self.lines[-1]

    @property
    def refused(self) -> float:
        """By the metrics, whoever refused."""
        labels = {"method": "POST", "route": "/swap", "status": "503"}
        name = "http_server_request_duration_seconds_count"
        return self.parts.metrics.registry.get_sample_value(name, labels) or 0


@pytest.fixture
def app() -> FastAPI:
    return make_app(FakeSwapper(), queue_images=3, cors_origins="https://page.example")


@asynccontextmanager
async def full(app: FastAPI, sheds: bool = True, send_buffer: int | None = None) -> AsyncIterator[Service]:
    came: list[str] = []
    app.add_middleware(Spy, came=came)
    with listening(app, sheds, send_buffer) as (port, parts), ExitStack() as held:
        service = Service(parts, came, port, held)
        await until(lambda: parts.lifecycle.phase == "ready")
        assert (await (await service.line()).ask(body=photo())).status == 200
        held.enter_context(parts.admission.place(1, 3))
        came.clear()
        try:
            yield service
        finally:
            for line in service.lines:
                line.writer.transport.abort()
            await asyncio.sleep(0)


async def test_it_is_the_answer_of_the_app(app: FastAPI) -> None:
    async with full(app, sheds=False) as service:
        usual = await (await service.line()).ask()
        assert service.came == ["/swap"]
    other = make_app(FakeSwapper(), queue_images=3, cors_origins="https://page.example")
    async with full(other) as service:
        shed = await (await service.line()).ask()
        assert service.came == []
    assert shed.status == 503 and shed.headers["retry-after"] == "1"
    assert json.loads(shed.body)["type"] == "/problems/queue-full"
    assert shed.headers.keys() == usual.headers.keys()
    assert shed.without_what_differs == usual.without_what_differs


async def test_it_has_an_id(app: FastAPI) -> None:
    async with full(app) as service:
        line = await service.line()
        own = await line.ask(X_Request_ID="mine-1")
        assert own.headers["x-request-id"] == json.loads(own.body)["request_id"] == "mine-1"
        ids = set()
        for given in ("", "{request-id}", 'a"b', "x" * 65):
            answer = await line.ask(X_Request_ID=given)
            ids.add(answer.headers["x-request-id"])
            assert json.loads(answer.body)["request_id"] == answer.headers["x-request-id"] != given
        assert len(ids) == 4
        assert service.came == []


@pytest.mark.parametrize("size", [0, 100, 300_000])
async def test_the_connection_goes_on(app: FastAPI, size: int) -> None:
    async with full(app) as service:
        line = await service.line()
        for _ in range(3):
            assert (await line.ask(body=b"x" * size)).status == 503
        assert service.came == []
        service.held.close()
        assert (await line.ask(body=photo())).status == 200
        assert service.came == ["/swap"]


async def test_a_place_that_is_free_again_is_given(app: FastAPI) -> None:
    async with full(app) as service:
        line = await service.line()
        assert (await line.ask()).status == 503
        service.held.close()
        with service.parts.admission.place(1, 2):
            assert (await line.ask(body=photo())).status == 200
            two = "/swap?target=echo,echo2&crop=none"
            assert (await line.ask(two)).status == 404  # two are one too many, but that was never asked
            assert service.came == ["/swap", "/swap"]


ELSEWHERE = {
    "another address": {"target": "/swap/batch?target=echo"},
    "a query that was never asked": {"target": TARGET + "&face=1"},
    "a query that is wrong": {"target": "/swap?target=echo&face=-1"},
    "no query": {"target": "/swap"},
    "another method": {"method": "PUT"},
    "another protocol": {"Connection": "Upgrade", "Upgrade": "h2c"},
    "a page": {"Origin": "https://page.example"},
    "a foreign page": {"Sec_Fetch_Site": "cross-site"},
    "the last one of a connection": {"Connection": "close"},
    "one that waits for 100": {"Expect": "100-continue", "body": b""},
}
OTHER_KINDS = {
    "a query that is wrong": "invalid-parameter",
    "no query": "invalid-parameter",
    "another method": "method-not-allowed",
    "a foreign page": "foreign-page",
}


@pytest.mark.parametrize("what", ELSEWHERE)
async def test_others_get_their_answer_from_the_app(app: FastAPI, what: str) -> None:
    async with full(app) as service:
        line = await service.line()
        answer = await line.ask(**ELSEWHERE[what])  # type: ignore[arg-type]
        assert len(service.came) == 1
        if what == "a page":
            assert answer.headers["access-control-allow-origin"] == "https://page.example"
        kind = json.loads(answer.body)["type"].removeprefix("/problems/")
        assert kind == OTHER_KINDS.get(what, "queue-full")


async def test_http_1_0_gets_its_answer_from_the_app(app: FastAPI) -> None:
    async with full(app) as service:
        line = await service.line()
        lines = f"POST {TARGET} HTTP/1.0", "Connection: keep-alive", "Content-Length: 1", "", "x"
        line.writer.write("\r\n".join(lines).encode())
        assert (await line.answer()).status == 503
        assert service.came == ["/swap"]


async def test_a_service_that_stops_says_so(app: FastAPI) -> None:
    async with full(app) as service:
        service.parts.lifecycle.drain()
        answer = await (await service.line()).ask()
        assert json.loads(answer.body)["type"] == "/problems/draining"


async def test_of_many_at_once_one_is_refused_and_the_others_wait_for_their_turn(app: FastAPI) -> None:
    async with full(app) as service:
        line = await service.line()
        head = f"POST {TARGET} HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\n\r\n"
        line.writer.write((head * 20).encode())
        assert [(await line.answer()).status for _ in range(20)] == [503] * 20
        assert len(service.came) == 19


async def test_answers_keep_their_order() -> None:
    """The second one of a connection finds no place while the first has the last one."""
    swapper, gate = FakeSwapper(), Gate()
    async with full(make_app(swapper, queue_images=3)) as service:
        service.held.close()
        swapper.on_encode = gate
        line = await service.line()
        with service.parts.admission.place(1, 2):
            line.send(body=photo())
            await gate.reached()
            line.send()
            await asyncio.sleep(0.05)
            gate.open()
            assert [(await line.answer()).status for _ in range(2)] == [200, 415]


async def test_who_reads_no_answers_is_not_written_more(app: FastAPI) -> None:
    """Else its answers would fill the memory."""
    async with full(app, send_buffer=4096) as service:
        line = await service.line(receive_buffer=4096)
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(1000):
            before = service.refused
            line.send()
            await until(lambda before=before: bool(service.came) or service.refused > before)  # type: ignore[misc]
            if service.came:
                break
        assert service.came, "it is the app that waits until the client reads"


async def test_a_body_that_creeps_makes_room(app: FastAPI) -> None:
    async with full(app) as service:
        service.held.close()
        line = await service.line()
        for _ in range(2):
            (await service.line()).send(body=b"", Content_Length="1000")
        await until(lambda: service.parts.admission.taken == 2)
        with service.parts.admission.place(1, 1):
            assert (await line.ask()).status == 503
            await asyncio.sleep(CREEPING_S)
            assert (await line.ask(body=photo())).status == 200, "the slowest has gone"


async def test_each_is_counted_and_one_line_tells_of_many(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shedding, "LINE_S", 0.2)
    caplog.set_level(logging.INFO, "faceswapd.requests")
    async with full(app) as service:
        line = await service.line()
        for _ in range(30):
            await line.ask()
        assert service.refused == 30
        registry = service.parts.metrics.registry
        assert registry.get_sample_value("swap_rejected_total", {"reason": "queue-full"}) == 30

        def told() -> list[int]:
            return [record.requests for record in caplog.records if hasattr(record, "requests")]

        await until(lambda: sum(told()) == 30)
        assert len(told()) < 15
