"""Which sites' pages may call the service and read its answers: FACESWAPD_CORS_ORIGINS, by default none."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY = "*"
METHODS = b"GET, POST"
ASKED = b"Authorization, Content-Type, X-API-Key, X-Request-ID"
TOLD = (
    b"RateLimit, RateLimit-Policy, Retry-After, Server-Timing, X-Digital-Source-Type, X-Face-Box, "
    b"X-Face-Score, X-Request-ID"
)
VARY = b"vary", b"Origin"
"""For caches: who asks from elsewhere gets other headers."""
_REMEMBER_S = b"600"


class Cors:
    """Pure ASGI. A page that is not allowed gets the answer without the headers that let it read it.

    Nothing here is opened by cookies, so credentials are never allowed; keys are ordinary headers.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.rstrip("/").encode("latin-1") for origin in origins)
        self._any = ANY.encode() in self._origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin: bytes | None = headers.get(b"origin")
        allowed = origin is not None and (self._any or origin in self._origins)
        named = [VARY]
        if allowed and origin is not None:
            named.append((b"access-control-allow-origin", b"*" if self._any else origin))
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await _preflight(named, send)
                return
            named.append((b"access-control-expose-headers", TOLD))

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *named]
            await send(message)

        await self._app(scope, receive, sent)


async def _preflight(named: list[tuple[bytes, bytes]], send: Send) -> None:
    """What a browser asks before the page's own request: 204, for every address and with no key."""
    named += [
        (b"access-control-allow-methods", METHODS),
        (b"access-control-allow-headers", ASKED),
        (b"access-control-max-age", _REMEMBER_S),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": named})
    await send({"type": "http.response.body", "body": b""})
