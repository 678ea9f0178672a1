"""HTTP/1.1 off the wire: uvicorn's httptools protocol, with a bound on the head of a request.

httptools takes 0.5 ms of processor time less than h11 for each request, a quarter of all that HTTP costs,
but unlike h11 it would keep as many header lines as a client cares to send.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers, or the trailers behind a body; the bound that h11 has."""


class BoundedProtocol(HttpToolsProtocol):
    """Answers 400 and hangs up when a head, or what follows a body, goes on beyond MAX_HEAD_BYTES."""

    _unfinished = 0

    def data_received(self, data: bytes) -> None:
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_headers_complete(self) -> None:
        self._unfinished = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unfinished = 0
        super().on_message_complete()
