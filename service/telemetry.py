"""What a request tells about itself: its id, where its time went, and one line in the log.

The line has no word of the client's: the route, not the address that was asked for.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InternalError
from service.problems import answer_for

REQUEST_ID = "X-Request-ID"
STEPS = ("read", "detect", "load", "queue", "encode", "decode", "paste", "write", "sign")
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_QUIET = ("/health/live", "/health/ready", "/metrics")
NO_ROUTE = "(none)"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
FIELDS = (
    *("method", "route", "status", "milliseconds", "seconds"),
    *("frames", "answered", "requests", "request_id"),
)
"""What lines of the log have beside their text."""
MAX_STEPS = 1000
"""Of one request, that are kept for its trace: a batch of 100 photos for 32 identities has 25,000."""

log = logging.getLogger("faceswapd.requests")


@dataclass(slots=True, eq=False)
class RequestFacts:
    """Of the request that is worked on; `steps` where it is traced: name, end by time.time_ns(), seconds."""

    id: str
    trace_id: str = ""
    steps: list[tuple[str, int, float]] | None = None


REQUEST: ContextVar[RequestFacts | None] = ContextVar("REQUEST", default=None)


class Counted(Protocol):
    """Who counts requests."""

    def request(self, method: str, route: str, status: int, seconds: float, problem: str | None) -> None: ...


class Clock:
    """Seconds per step of one request. Steps follow each other, so no lock is needed."""

    def __init__(self) -> None:
        self.spans: dict[str, float] = {}
        request = REQUEST.get()
        self._steps = None if request is None else request.steps

    def add(self, step: str, seconds: float) -> None:
        """To be called when the step has just ended."""
        self.spans[step] = self.spans.get(step, 0.0) + seconds
        if self._steps is not None and len(self._steps) < MAX_STEPS:
            self._steps.append((step, time.time_ns(), seconds))

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

    def __init__(self, app: ASGIApp, metrics: Counted) -> None:
        self._app = app
        self._metrics = metrics
        self._paths: frozenset[str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._stream(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = named_request(scope)
        started = time.monotonic()
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, named)
        except Exception:
            log.exception("request %s failed", request_id)
            if status:  # the answer has begun: only closing the connection tells the client
                raise
            await answer_for(InternalError(), request_id)(scope, receive, named)
        finally:
            seconds = time.monotonic() - started
            method, route = known_method(scope["method"]), self._route(scope)
            scope["state"] |= {"method": method, "route": route}  # for the trace
            self._metrics.request(method, route, status, seconds, scope["state"].get("problem"))
            _write_line(method, route, status, seconds, request_id)

    def _route(self, scope: Scope) -> str:
        """As the app knows it, such as /identities/{name}; (none) for addresses that it does not know.

        Layers that answer before the routing leave the address alone, which then is a route's or nobody's.
        """
        path = getattr(scope.get("route"), "path_format", None)
        if path is not None:
            return str(path)
        if self._paths is None:
            self._paths = _paths(scope.get("app"))
        if scope["path"] in self._paths:
            return str(scope["path"])
        return "/static" if scope["path"].startswith("/static/") else NO_ROUTE

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One line when the socket is closed, with its code, or the status that refused it."""
        request_id = named_request(scope)
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
            seconds = round(time.monotonic() - started, 1)
            route = self._route(scope)
            facts = {"route": route, "status": code, "seconds": seconds, "request_id": request_id}
            facts |= {"frames": frames, "answered": answered}
            log.info("WS %s %d", route, code, extra=facts)


def named_request(scope: Scope) -> str:
    """The id of the request, which whatever is written about it from now on will have."""
    request_id = request_id_from(Headers(scope=scope))
    scope.setdefault("state", {})["request_id"] = request_id
    request = REQUEST.get()
    if request is not None and request.trace_id:
        request.id = request_id
    else:
        REQUEST.set(RequestFacts(request_id))
    return request_id


def known_method(method: str) -> str:
    """A client may send any word."""
    return method if method in METHODS else "?"


def _paths(app: object) -> frozenset[str]:
    """Of all routes, those of included routers too, which FastAPI keeps as one route each."""
    routes = list(getattr(app, "routes", ()))
    included = [route.original_router for route in routes if hasattr(route, "original_router")]
    routes += [route for router in included for route in router.routes]
    return frozenset(str(route.path) for route in routes if hasattr(route, "path"))


def _write_line(method: str, route: str, status: int, seconds: float, request_id: str) -> None:
    level = logging.DEBUG if route in _QUIET and status < 400 else logging.INFO
    if not log.isEnabledFor(level):
        return
    milliseconds = round(seconds * 1000, 1)
    facts = {"method": method, "route": route, "status": status, "milliseconds": milliseconds}
    facts["request_id"] = request_id
    log.log(level, "%s %s %d", method, route, status, extra=facts)
