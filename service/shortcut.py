"""POST /swap by the short way: past FastAPI's routing, dependencies and validation, to the same function.

Those take more processor time than reading the picture does, and a 503 needs hardly anything else. The
route stays: it describes the address, and it answers where the query is not a good one.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from faceswap.errors import SwapError
from service import problems, routes
from service.errors import ServiceError
from service.parts import Parts
from service.schemas import SwapQuery

PATH = "/swap"
KNOWN, KNOWN_BYTES = 256, 256
"""So many queries are kept, and none that is longer: clients send the same few again and again."""


class Shortcut:
    """To be the innermost layer: what the others see and do is the same by either way."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts
        self._known: dict[bytes, SwapQuery] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST"
        query = self._query(scope["query_string"]) if ours else None
        if query is None:
            await self._app(scope, receive, send)
            return
        response = await self._answer(Request(scope, receive), query)
        await response(scope, receive, send)

    async def _answer(self, request: Request, query: SwapQuery) -> Response:
        try:
            return await routes.swap(request, self._parts, query)
        except (SwapError, ServiceError, ClientDisconnect) as error:
            return problems.answer_to(request, error)

    def _query(self, text: bytes) -> SwapQuery | None:
        """None where the route should say what is wrong with it."""
        query = self._known.get(text)
        if query is None and (query := read_query(text)) is not None and len(text) <= KNOWN_BYTES:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[text] = query
        return query


def read_query(text: bytes) -> SwapQuery | None:
    """As FastAPI reads it: of a parameter that is given twice the last one counts, but all targets do."""
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True):
        given.setdefault(name, []).append(value)
    try:
        return SwapQuery.model_validate(
            {name: values if name == "target" else values[-1] for name, values in given.items()}
        )
    except ValidationError:
        return None
