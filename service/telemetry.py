"""What a request tells about itself: its id, where its time went, and one line in the log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InternalError
from service.problems import answer_for

REQUEST_ID = "X-Request-ID"
STEPS = ("read", "detect", "load", "queue", "encode", "decode", "paste", "write", "sign")
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")
_QUIET = ("/health/live", "/health/ready")

log = logging.getLogger("faceswapd.requests")


class Clock:
    """Seconds per step of one request. Steps follow each other, so no lock is needed."""

    def __init__(self) -> None:
        self.spans: dict[str, float] = {}

    def add(self, step: str, seconds: float) -> None:
        self.spans[step] = self.spans.get(step, 0.0) + seconds

    @contextmanager
    def span(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.add(step, time.monotonic() - started)

    def copy(self) -> Clock:
        """For a face of a photo with several: the steps that they share are in it already."""
        copy = Clock()
        copy.spans.update(self.spans)
        return copy

    def milliseconds(self) -> dict[str, float]:
        """By step, in the order of the work."""
        return {step: round(self.spans[step] * 1000, 1) for step in STEPS if step in self.spans}

    def server_timing(self) -> str:
        """The Server-Timing header."""
        return ", ".join(f"{step};dur={took:.1f}" for step, took in self.milliseconds().items())


def request_id_from(headers: Headers) -> str:
    """The caller's own id where it is harmless in a log and a header, else a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex


class Telemetry:
    """The outermost layer: names the request, answers what nobody caught with a 500, writes the line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._stream(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_from(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.monotonic()
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self._app(scope, receive, named)
        except Exception:
            log.exception("request %s failed", request_id)
            if status:  # the answer has begun: only closing the connection tells the client
                raise
            await answer_for(InternalError(), request_id)(scope, receive, named)
        finally:
            _write_line(scope, status, time.monotonic() - started, request_id)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One line when the socket is closed, with its code, or the status that refused it."""
        request_id = request_id_from(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.monotonic()
        code = frames = answered = 0

        async def counted_in() -> Message:
            nonlocal code, frames
            message = await receive()
            frames += message.get("bytes") is not None
            if message["type"] == "websocket.disconnect":
                code = code or message.get("code") or 1005
            return message

        async def counted_out(message: Message) -> None:
            nonlocal code, answered
            if message["type"] in ("websocket.accept", "websocket.http.response.start"):
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
                code = message.get("status", 0)
            answered += message["type"] == "websocket.send" and message.get("bytes") is not None
            if message["type"] == "websocket.close":
                code = message.get("code", 1000)
            await send(message)

        try:
            await self._app(scope, counted_in, counted_out)
        except Exception:
            code = 1011
            log.exception("stream %s failed", request_id)
            with suppress(Exception):  # it may be closed already
                await send({"type": "websocket.close", "code": code, "reason": "see the log"})
        finally:
            seconds = time.monotonic() - started
            tally = f"{seconds:.1f} s frames={frames} answered={answered}"
            log.info("WS %s %d %s id=%s", _target(scope), code, tally, request_id)


def _write_line(scope: Scope, status: int, seconds: float, request_id: str) -> None:
    level = logging.DEBUG if scope["path"] in _QUIET and status < 400 else logging.INFO
    log.log(
        level, "%s %s %d %.1f ms id=%s", scope["method"], _target(scope), status, seconds * 1000, request_id
    )


def _target(scope: Scope) -> str:
    """The address in one printable line, whatever was asked for."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    target = (raw + (b"?" + query if query else b"")).decode("latin-1")[:200]
    return _NOT_PRINTABLE.sub("?", target)
