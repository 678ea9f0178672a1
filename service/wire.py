"""HTTP/1.1 off the wire: uvicorn's httptools protocol, with bounds on the head of a request and on time.

httptools takes 0.5 ms of processor time less than h11 for each request, a quarter of all that HTTP costs,
but unlike h11 it would keep as many header lines as a client cares to send. Neither has a clock.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from service.crowd import Crowd, Pace
from service.errors import ConnectionsFullError, HeadTimeoutError, ServiceError, kind_of
from service.problems import MEDIA_TYPE, problem_of
from service.shedding import METHOD, Shedder, header_lines

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers, or the trailers behind a body; the bound that h11 has."""
_BODY_GRACE_S = 5.0
"""The route's own 408 comes first; this one is for bodies that no route waits for."""
LINGER_S = 1.0
"""For which a refused connection is still listened to: a close over unread bytes may take the answer away
before it is read (RFC 9112, 9.6)."""
_LINGERING = 64
"""Of them at most at once; beyond that they are closed as they come."""
_METHOD = METHOD.encode()


class Parting:
    """Of a protocol: the end of a connection whose other end may still be sending."""

    crowd: Crowd
    """Of the subclass that `protocols` makes."""
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _farewell: asyncio.TimerHandle | None = None

    @property
    def has_parted(self) -> bool:
        """What comes now is not listened to."""
        return self._farewell is not None

    def part(self) -> None:
        """To be called after the last words were written."""
        if self.crowd.lingering < _LINGERING:
            self.transport.write_eof()
            self.crowd.lingering += 1
            self._farewell = self.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()

    def parted(self) -> None:
        """The connection is lost."""
        self.crowd.left(self)  # type: ignore[arg-type]
        if self._farewell is not None:
            self._farewell.cancel()
            self.crowd.lingering -= 1


class BoundedProtocol(Parting, HttpToolsProtocol):
    """Answers 400 and hangs up when a head, or what follows a body, goes on beyond MAX_HEAD_BYTES.

    What its `shedder` refuses never comes to the app.
    """

    shedder: Shedder | None = None
    _is_shed = _may_shed = False
    _unfinished = 0
    _received = 0
    _head_since: float | None = None
    _has_begun = False
    _body_comes = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.answer_pace = Pace()
        self._body_pace = Pace()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_since = self.loop.time()
        if self.crowd.came(self):
            self.crowd.idles(self)
        else:
            self._refuse(ConnectionsFullError())

    def connection_lost(self, exc: Exception | None) -> None:
        self.parted()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.has_parted:
            return
        self._unfinished += len(data)
        self._received += len(data)
        self._may_shed = True
        super().data_received(data)
        if self._unfinished > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def handle_websocket_upgrade(self) -> None:
        self.crowd.left(self)
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        if self._head_since is None:
            self._head_since = self.loop.time()
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._unfinished = 0
        self._head_since = None
        self._body_comes = True
        self._body_pace.rest()
        self.crowd.works(self)
        if (refusal := self._refusal()) is not None:
            self._is_shed, self._may_shed = True, False
            self.transport.write(refusal)
            self.crowd.idles(self)
            return
        super().on_headers_complete()
        if self.crowd.leaving and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._unfinished = 0
        if not self._is_shed:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._unfinished = 0
        self._body_comes = False
        self._has_begun = False
        if self._is_shed:
            self._is_shed = False
            self.on_response_complete()
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._works():
            self.crowd.idles(self)

    def is_new(self) -> bool:
        return not self._received

    def late(self, now: float) -> str | None:
        """For a head that does not end, or a body that comes too slowly while the service would take it."""
        settings = self.crowd.settings
        if self._head_since is not None and now - self._head_since > settings.head_timeout_s:
            return None if self._works() else "slow head"
        if not self._body_comes or self.flow.read_paused:
            self._body_pace.rest()
            return None
        window_s = settings.body_timeout_s + _BODY_GRACE_S
        slow = self._body_pace.is_slow(now, self._received, window_s, settings.slowest_bytes_per_s)
        return "slow body" if slow else None

    def hang_up(self, why: str) -> None:
        if why == "slow head" and self._has_begun:
            self._refuse(HeadTimeoutError(self.crowd.settings.head_timeout_s))
        elif why == "slow body":
            self.transport.abort()
        else:
            self.transport.close()

    def _refusal(self) -> bytes | None:
        """The whole answer to a request that is shed: at most one of those that came in one piece.

        A client that sends thousands at once, or reads no answers, waits for its turn as ever.
        """
        parser = self.parser
        waits = self._works() or self.flow.write_paused
        if self.shedder is None or not self._may_shed or waits or parser.get_method() != _METHOD:
            return None
        if parser.get_http_version() != "1.1" or not parser.should_keep_alive() or parser.should_upgrade():
            return None
        refusal = self.shedder.refusal(self.url, self.headers)
        if refusal is None:
            return None
        return STATUS_LINE[self.shedder.status] + header_lines(self.server_state.default_headers) + refusal

    def _works(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: ServiceError) -> None:
        """A whole answer before any app is asked, then the end of the connection."""
        kind = kind_of(error)
        body = problem_of(error, "-").model_dump_json(exclude_none=True).encode()
        lines = [
            f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
            *([] if kind.retry_after_s is None else [f"Retry-After: {kind.retry_after_s}"]),
        ]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.part()


class CountedSocket(Parting, WebSocketsSansIOProtocol):
    """A WebSocket of the crowd: always busy, cut off where nobody reads what it says."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.answer_pace = Pace()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.crowd.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.parted()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.has_parted:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """As uvicorn's, which closes over what still comes: who sends too much would not read 1009."""
        closed = self.conn.close_sent
        assert closed is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closed.code, "reason": closed.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.part()
        self.close_timer = self._farewell  # while there is one, the end of the app closes nothing

    def is_new(self) -> bool:
        return False

    def late(self, now: float) -> str | None:  # noqa: ARG002  (streams have their own: stream_idle_s)
        return None

    def hang_up(self, why: str) -> None:  # noqa: ARG002
        self.transport.abort()


def protocols(
    crowd: Crowd, shedder: Shedder | None = None
) -> tuple[type[BoundedProtocol], type[CountedSocket]]:
    """For one server: uvicorn makes a protocol for each connection and gives it nothing of ours."""
    http = type("HttpOfCrowd", (BoundedProtocol,), {"crowd": crowd, "shedder": shedder})
    sockets = type("SocketOfCrowd", (CountedSocket,), {"crowd": crowd})
    return http, sockets
