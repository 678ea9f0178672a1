"""Headers that every answer has, and a log that holds no key."""

from __future__ import annotations

import logging
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.keys import PREFIX

SECURITY: dict[bytes, bytes] = {
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}
"""What a route says itself, as that of the page, stands. No HSTS: that is for who has the TLS."""
_STARTS = ("http.response.start", "websocket.http.response.start")
_KEY = re.compile(rf"({PREFIX}_[0-9a-f]{{12}})_[A-Za-z0-9_-]+")


class SafeHeaders:
    """The outermost layer, so that a 500 has them too. Pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] in _STARTS:
                headers = list(message.get("headers", ()))
                said = {name for name, _ in headers}
                headers += [(name, value) for name, value in SECURITY.items() if name not in said]
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, sent if scope["type"] in ("http", "websocket") else send)


class WithoutKeys(logging.Filter):
    """Leaves the id of a key in a log line, which tells whose it is, and takes the secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if PREFIX in text:
            record.msg, record.args = _KEY.sub(r"\1_***", text), None
        return True
