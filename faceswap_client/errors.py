"""What can go wrong, as types: problems that the service tells, and what happens on the way to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PROBLEM_TYPE = "application/problem+json"


class FaceswapdError(Exception):
    """Parent of all that this client raises."""


class UnreachableError(FaceswapdError):
    """No connection: the service is not running, not there, or the line is down. Nothing was swapped."""


class TimedOutError(FaceswapdError):
    """Connected, but no answer within the client's `timeout`."""


class BrokenAnswerError(FaceswapdError):
    """The answer breaks off or is not what docs/api.md says; another server may have answered."""


class StreamClosedError(FaceswapdError):
    """The stream has ended without a problem; `code` as in docs/api.md."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the stream was closed with {code}: {reason or 'no reason given'}")
        self.code = code


class ProblemError(FaceswapdError):
    """The service refused (RFC 9457). Decide by the class or by `slug`; `detail` is for people."""

    def __init__(self, problem: Mapping[str, Any], retry_after_s: float | None = None) -> None:
        self.type = str(problem.get("type", "about:blank"))
        self.title = str(problem.get("title", ""))
        self.status = int(problem.get("status", 0))
        self.detail = str(problem.get("detail") or self.title or f"status {self.status}")
        self.request_id = str(problem.get("request_id", ""))
        """With this the operator finds the line of the log."""
        self.retry_after_s = retry_after_s
        self.problem = dict(problem)
        super().__init__(self.detail)

    @property
    def slug(self) -> str:
        """`no-face` of the type `/problems/no-face`."""
        return self.type.rpartition("/")[2]


class PhotoError(ProblemError):
    """Something is wrong with this photo; another one may do."""


class NoFaceError(PhotoError):
    """No face was found, or fewer than `face` asks for."""


class ParameterError(ProblemError):
    """A parameter is unknown or out of range; `errors` tells which."""

    @property
    def errors(self) -> list[dict[str, str]]:
        """Each with `where`, `name` and `message`."""
        return list(self.problem.get("errors") or [])


class UnknownIdentityError(ProblemError):
    """The service has no identity of that name."""

    @property
    def known(self) -> list[str]:
        """The identities that it has."""
        return list(self.problem.get("known") or [])


class KeyRefusedError(ProblemError):
    """401 or 403: the key is missing, wrong, or opens something else."""


class BusyError(ProblemError):
    """429, 503 or 504, also after all tries: full, starting, stopping or late. Come again later."""


class ServerError(ProblemError):
    """500 and the like: the operator finds the reason by `request_id`."""


_BY_SLUG: dict[str, type[ProblemError]] = {
    "body-timeout": PhotoError,
    "body-too-large": PhotoError,
    "image-too-large": PhotoError,
    "invalid-parameter": ParameterError,
    "no-face": NoFaceError,
    "no-image": PhotoError,
    "no-such-face": NoFaceError,
    "not-an-image": PhotoError,
    "truncated-image": PhotoError,
    "unknown-identity": UnknownIdentityError,
    "wrong-crop-size": PhotoError,
}
_BY_STATUS: dict[int, type[ProblemError]] = {
    401: KeyRefusedError,
    403: KeyRefusedError,
    429: BusyError,
    503: BusyError,
    504: BusyError,
}


def problem_error(problem: Mapping[str, Any], retry_after_s: float | None = None) -> ProblemError:
    """The error of the class that fits: by type, else by status, so that new types are no surprise."""
    error = ProblemError(problem, retry_after_s)
    other = ServerError if error.status >= 500 else ProblemError
    fitting = _BY_SLUG.get(error.slug) or _BY_STATUS.get(error.status, other)
    return fitting(problem, retry_after_s)


def error_of(status: int, content_type: str, body: bytes, retry_after_s: float | None = None) -> ProblemError:
    """Of an answer that is no success; a proxy's page of its own becomes a problem without a type."""
    if content_type.partition(";")[0].strip().lower() == PROBLEM_TYPE:
        try:
            problem = json.loads(body)
        except ValueError:
            problem = None
        if isinstance(problem, dict):
            return problem_error(problem, retry_after_s)
    detail = f"the answer has status {status} and is no problem of faceswapd: something before it answered"
    return problem_error({"status": status, "detail": detail}, retry_after_s)
