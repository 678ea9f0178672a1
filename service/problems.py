"""Errors as answers: RFC 9457 problems, whoever raised them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from faceswap.errors import SwapError, UnknownIdentityError
from service.errors import (
    TABLE,
    InternalError,
    InvalidParameterError,
    Kind,
    MethodNotAllowedError,
    NotFoundError,
    RateLimitError,
    ServiceError,
    kind_of,
)
from service.schemas import ParameterError, Problem

MEDIA_TYPE = "application/problem+json"

log = logging.getLogger("faceswapd.problems")


def register(app: FastAPI) -> None:
    """Every error that can reach the client leaves as a problem; the 500s come from `Telemetry`."""
    app.add_exception_handler(SwapError, _on_known)
    app.add_exception_handler(ServiceError, _on_known)
    app.add_exception_handler(ClientDisconnect, _on_known)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)


def answer_for(error: Exception, request_id: str, errors: list[ParameterError] | None = None) -> Response:
    """The answer that the table gives for `error`."""
    kind = kind_of(error)
    wait_s = error.retry_after_s if isinstance(error, RateLimitError) else kind.retry_after_s
    headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
    if kind.challenge is not None:
        headers["WWW-Authenticate"] = kind.challenge
    return _answer(problem_of(error, request_id, errors), headers)


def problem_of(error: Exception, request_id: str, errors: list[ParameterError] | None = None) -> Problem:
    """The problem that the table gives for `error`."""
    kind = kind_of(error)
    return Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=kind.detail or str(error) or kind.title,
        request_id=request_id,
        known=error.known if isinstance(error, UnknownIdentityError) else None,
        errors=errors,
    )


def responses(*errors: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for a route that may raise `errors`; any route may fail with a 500."""
    kinds = [TABLE[error] for error in (*errors, InternalError)]
    described: dict[int | str, dict[str, Any]] = {
        status: _described([kind for kind in kinds if kind.status == status])
        for status in sorted({kind.status for kind in kinds})
    }
    # Also keeps FastAPI from adding its own 422 body, which this service never sends.
    described["default"] = {"description": "Any other error", "content": {MEDIA_TYPE: {"schema": _REFERENCE}}}
    return described


_REFERENCE = {"$ref": "#/components/schemas/Problem"}


def _described(kinds: Sequence[Kind]) -> dict[str, Any]:
    examples = {
        kind.slug: {
            "summary": kind.title,
            "value": {
                "type": kind.type,
                "title": kind.title,
                "status": kind.status,
                "detail": kind.detail or "What happened and what to do about it.",
                "request_id": "3f0c9a52d7e14c0b8a6f2f5a7a1be1c4",
            },
        }
        for kind in kinds
    }
    described: dict[str, Any] = {
        "description": "; ".join(f"`{kind.type}`: {kind.title}" for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": _REFERENCE, "examples": examples}},
    }
    if any(kind.retry_after_s is not None for kind in kinds):
        schema = {"type": "integer"}
        described["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": schema}}
    return described


def answer_to(request: Request, error: Exception) -> Response:
    """The answer for what the library or the service raised on purpose; the log has what it does not tell."""
    if kind_of(error).status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request %s failed", request_id_of(request), exc_info=error)
    return answer_for(error, request_id_of(request))


async def _on_known(request: Request, error: Exception) -> Response:
    return answer_to(request, error)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = wrong_parameters(error.errors())
    detail = "; ".join(f"{w.where} parameter '{w.name}': {w.message}" for w in wrong)
    return answer_for(InvalidParameterError(detail), request_id_of(request), wrong)


async def _on_http(request: Request, error: Exception) -> Response:
    """Errors of the framework itself: no such address, method not allowed."""
    assert isinstance(error, HTTPException)
    ours: dict[int, ServiceError] = {404: NotFoundError(), 405: MethodNotAllowedError()}
    if error.status_code in ours:
        response = answer_for(ours[error.status_code], request_id_of(request))
    else:  # none is known today; RFC 9457's type for "the status says it all"
        title = HTTPStatus(error.status_code).phrase
        response = _answer(
            Problem(
                type="about:blank",
                title=title,
                status=error.status_code,
                detail=title,
                request_id=request_id_of(request),
            ),
            {},
        )
    response.headers.update(error.headers or {})
    return response


def wrong_parameters(entries: Iterable[Mapping[str, Any]]) -> list[ParameterError]:
    """Of pydantic's entries, whose `loc` begins with where the parameter was."""
    return [_parameter_error(entry) for entry in entries]


def _parameter_error(entry: Mapping[str, Any]) -> ParameterError:
    """Without pydantic's `input` and `ctx`: what was sent is never repeated."""
    where, *names = entry["loc"]
    name = ".".join(str(part) for part in names)[:64]
    message = str(entry["msg"])
    if entry["type"] == "missing":
        message = "is missing"
    if entry["type"] == "extra_forbidden":
        message = "is unknown; GET /openapi.json describes the known ones"
    if name == "target":
        message += "; GET /identities lists the targets"
    return ParameterError(where=str(where), name=name, message=message)


def _answer(problem: Problem, headers: dict[str, str]) -> Response:
    body = problem.model_dump_json(exclude_none=True)
    return ProblemResponse(problem.type, body, problem.status, headers)


class ProblemResponse(Response):
    """Tells the layers around it which problem it is: they see bytes only."""

    media_type = MEDIA_TYPE

    def __init__(self, type: str, body: str, status: int, headers: dict[str, str]) -> None:
        super().__init__(body, status, headers)
        self._slug = type.rpartition("/")[2]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["problem"] = self._slug
        await super().__call__(scope, receive, send)


def request_id_of(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))
