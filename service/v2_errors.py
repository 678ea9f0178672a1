"""Below /v2 errors are those of the Open Inference Protocol: {"error": "..."} in place of a problem."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import MEDIA_TYPE
from service.schemas import Problem
from service.v2_schemas import V2Error


class V2Errors:
    """Rewrites problems that leave for an address below /v2, whoever they come from; keeps the status."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_v2(scope["path"]):
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def rewritten(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message  # until its body is there: they are sent as one piece
            elif start is not None:
                body = _v2_error(message["body"])
                MutableHeaders(scope=start)["content-length"] = str(len(body))
                MutableHeaders(scope=start)["content-type"] = "application/json"
                await send(start)
                await send({**message, "body": body})
                start = None
            else:
                await send(message)

        await self._app(scope, receive, rewritten)


def is_v2(path: str) -> bool:
    return path == "/v2" or path.startswith("/v2/")


def _is_problem(start: Message) -> bool:
    return MutableHeaders(scope=start).get("content-type") == MEDIA_TYPE


def _v2_error(body: bytes) -> bytes:
    problem = Problem.model_validate_json(body)
    return V2Error(error=problem.detail, type=problem.type).model_dump_json().encode()
