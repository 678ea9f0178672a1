"""WS /stream: who may open one, and how it is told why not."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from faceswap.errors import SwapError, UnknownIdentityError
from service.errors import (
    BodyTooLargeError,
    DrainingError,
    ForeignPageError,
    InvalidParameterError,
    ServiceError,
    StartingError,
    StreamsFullError,
    kind_of,
)
from service.parts import Parts
from service.problems import answer_for, problem_of
from service.schemas import FrameReport, StreamQuery
from service.streaming import IdleError, Stream, Talk, invalid

CLOSE_IDLE, CLOSE_REFUSED, CLOSE_TOO_LARGE = 1001, 1008, 1009
CLOSE_BROKEN, CLOSE_RESTART, CLOSE_LATER = 1011, 1012, 1013
"""Codes of RFC 6455 section 7.4.1 and of IANA's registry, which browsers show to the page."""
_CODES: dict[type[Exception], int] = {
    UnknownIdentityError: CLOSE_REFUSED,
    InvalidParameterError: CLOSE_REFUSED,
    BodyTooLargeError: CLOSE_TOO_LARGE,
    DrainingError: CLOSE_RESTART,
    StartingError: CLOSE_LATER,
    StreamsFullError: CLOSE_LATER,
}

router = APIRouter()


@router.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    """Pages of other sites are refused before the handshake; the rest is told in the stream itself."""
    parts: Parts = socket.app.state.parts
    request_id = str(socket.scope.get("state", {}).get("request_id", ""))
    if not _is_ours(socket, parts.settings.stream_origins):
        await socket.send_denial_response(answer_for(ForeignPageError(), request_id))
        return
    await socket.accept()
    talk = Talk(socket, request_id)
    try:
        parts.lifecycle.require_ready()
        query = _query(socket)
        parts.swapper.check(query.target)
        with parts.seats.seat() as seat:
            await Stream(talk, parts, query, seat).run()
    except WebSocketDisconnect:
        pass
    except IdleError as error:
        await talk.close(CLOSE_IDLE, str(error))
    except (SwapError, ServiceError) as error:
        await _refuse(talk, error, parts)


async def _refuse(talk: Talk, error: Exception, parts: Parts) -> None:
    """The problem as a message, then the code that fits it."""
    problem = problem_of(error, talk.request_id)
    parts.metrics.refused(problem.status, kind_of(error).slug)
    with suppress(WebSocketDisconnect):
        await talk.say(FrameReport(problem=problem))
        await talk.close(_CODES.get(type(error), CLOSE_BROKEN), problem.detail)


def _query(socket: WebSocket) -> StreamQuery:
    try:
        return StreamQuery.model_validate(dict(socket.query_params))
    except ValidationError as error:
        raise invalid(error, "query") from None


def _is_ours(socket: WebSocket, allowed: str) -> bool:
    """Browsers let any page open a socket to any host, with its cookies, and name the page in Origin.

    Who sends no Origin is no browser.
    """
    origin = socket.headers.get("origin")
    if origin is None or origin in [entry.strip() for entry in allowed.split(",")]:
        return True
    return urlsplit(origin).netloc.lower() == socket.headers.get("host", "").lower() != ""
