"""Which replica a request goes to: one that has the decoder of its identity in memory."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

MODEL_HEADER = "serve_multiplexed_model_id"
"""What Ray's routers look at; hyphens are as good as underscores."""


class ByIdentity:
    """In Ray's proxy: names the identity of a request for the router; the client has no say in it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = _without(scope["headers"])
            if identity := identity_of(scope["path"], scope.get("query_string", b"")):
                headers.append((MODEL_HEADER.encode(), identity.encode()))
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)


def _without(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(n, v) for n, v in headers if n.lower().replace(b"-", b"_") != MODEL_HEADER.encode()]


def identity_of(path: str, query: bytes) -> str | None:
    """The one identity that a request is for; None: any replica will do."""
    steps = path.strip("/").split("/")
    if steps[:2] == ["v2", "models"] and steps[-1] == "infer" and len(steps) > 3:
        return steps[2]
    if path not in ("/swap", "/swap/batch"):
        return None
    names = ",".join(parse_qs(query.decode("latin-1")).get("target", [])).split(",")
    return names[0] if len(names) == 1 and names[0].isascii() and names[0] else None
