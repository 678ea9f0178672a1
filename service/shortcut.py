"""POST /swap by the short way: past FastAPI's routing, dependencies and validation, to the same function.

Those take more processor time than reading the picture does, and a 503 needs hardly anything else. The
route stays: it describes the address, and it answers where the query is not a good one.
"""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from faceswap.errors import SwapError
from service import problems, routes
from service.errors import ServiceError
from service.parts import Parts
from service.queries import PATH
from service.schemas import SwapQuery


class Shortcut:
    """To be the innermost layer: what the others see and do is the same by either way."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts
        self._path = PATH.decode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"] == self._path and scope["method"] == "POST"
        query = self._parts.queries.read(scope["query_string"]) if ours else None
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
