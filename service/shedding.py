"""Load shedding: while every place is taken, a swap is refused as soon as its head has come.

By the usual way a refusal takes a quarter of a millisecond of processor time, in layers that have nothing to
say to it. Of ten times more requests than there is room for, that took two fifths of the swaps from those who
got in (docs/adr/0011-load-shedding.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from starlette.datastructures import Headers

from service.cors import VARY
from service.errors import QueueFullError, kind_of
from service.lifecycle import Phase
from service.parts import Parts
from service.problems import answer_for
from service.queries import PATH
from service.safety import SECURITY
from service.telemetry import REQUEST_ID, request_id_from

Fields = Iterable[tuple[bytes, bytes]]
"""Header fields, with names in lower case."""

METHOD = "POST"
LINE_S = 1.0
"""One line of the log tells of all that were refused within this time."""
_OTHERS = frozenset({b"origin", b"sec-fetch-site", b"expect"})
"""Who sends these gets more than a plain refusal: words for its browser, or a connection that is closed."""
_HERE = b"{request-id}"

log = logging.getLogger("faceswapd.requests")


class Shedder:
    """Knows what the app would answer to a swap that finds no place. For the event loop only."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._kind = kind_of(QueueFullError())
        answer = answer_for(QueueFullError(), _HERE.decode())
        fields = [field for field in answer.raw_headers if field[0] != b"content-length"]
        fields += [*SECURITY.items(), *([VARY] if parts.settings.cors_origins else [])]
        self._fields = header_lines(fields)
        self._body = bytes(answer.body)
        self._refused = 0
        """Since the last line of the log."""

    def refusal(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """What follows the status line and the server's own headers; None where the app is to answer.

        `target` is that of the request line of a POST (RFC 9112, 3.2). What is refused here has shown no
        key and paid no rate: that the service is full is no secret, and nothing is done for it.
        """
        started = time.monotonic()
        path, _, text = target.partition(b"?")
        query = self._parts.queries.known(text) if path == PATH else None
        if query is None or self._parts.lifecycle.phase is not Phase.READY:
            return None
        if not self._parts.admission.is_full(len(query.target)):
            return None
        if any(name in _OTHERS for name, _ in headers):
            return None
        request_id = request_id_from(Headers(raw=headers)).encode()
        body = self._body.replace(_HERE, request_id)
        own = header_lines(
            [(REQUEST_ID.lower().encode(), request_id), (b"content-length", b"%d" % len(body))]
        )
        self._note(time.monotonic() - started)
        return self._fields + own + b"\r\n" + body

    @property
    def status(self) -> int:
        return self._kind.status

    def _note(self, seconds: float) -> None:
        kind = self._kind
        self._parts.metrics.request(METHOD, PATH.decode(), kind.status, seconds, kind.slug)
        if not self._refused:
            asyncio.get_running_loop().call_later(LINE_S, self._write_line)
        self._refused += 1

    def _write_line(self) -> None:
        method, route, status = METHOD, PATH.decode(), self._kind.status
        facts = {"method": method, "route": route, "status": status, "requests": self._refused}
        log.info("%s %s %d, no place", method, route, status, extra=facts)
        self._refused = 0


def header_lines(fields: Fields) -> bytes:
    """As they go over the wire (RFC 9112, 5)."""
    return b"".join(b"%s: %s\r\n" % field for field in fields)
