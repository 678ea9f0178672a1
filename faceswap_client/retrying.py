"""When to ask again, and how long to wait before: a full service is full for a moment."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from faceswap_client.errors import (
    BrokenAnswerError,
    FaceswapdError,
    TimedOutError,
    UnreachableError,
    error_of,
)

AGAIN = (429, 503, 504)
"""Too many, full or starting, late: nothing was swapped, and another try may do."""
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long.

    The pause is what the service asks for by Retry-After; without one it begins with `first_s` and doubles.
    A service that asks for more than `longest_s` is not asked again: the error has `retry_after_s`.
    """

    times: int = 4
    first_s: float = 0.25
    longest_s: float = 10.0

    def pause(self, made: int, outcome: httpx.Response | httpx.HTTPError) -> float | None:
        """Seconds to wait after `made` tries, the last of which ended so; None: leave it at that."""
        if made > self.times or not _is_worth_another(outcome):
            return None
        asked = retry_after_s(outcome) if isinstance(outcome, httpx.Response) else None
        if asked is None:
            longest = min(self.first_s * 2 ** (made - 1), self.longest_s)
            return random.uniform(longest / 2, longest)
        # Never earlier than asked, and not all clients at once.
        return asked + random.uniform(0, self.first_s) if asked <= self.longest_s else None


NEVER = Retries(times=0)


def _is_worth_another(outcome: httpx.Response | httpx.HTTPError) -> bool:
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in AGAIN
    return isinstance(outcome, _NEVER_SENT)


def retry_after_s(response: httpx.Response) -> float | None:
    """Of the header, which holds seconds or a date; None where it has neither."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def settled(outcome: httpx.Response | httpx.HTTPError) -> httpx.Response:
    """The answer, if it is one; else what it means is raised. An error's body must have been read."""
    if isinstance(outcome, httpx.HTTPError):
        raise failed(outcome) from outcome
    if outcome.is_success:
        return outcome
    content_type = outcome.headers.get("content-type", "")
    raise error_of(outcome.status_code, content_type, outcome.content, retry_after_s(outcome))


def failed(error: httpx.HTTPError) -> FaceswapdError:
    """Of what httpx raises."""
    what = str(error) or type(error).__name__
    if isinstance(error, (*_NEVER_SENT, httpx.UnsupportedProtocol)):
        return UnreachableError(f"the service cannot be reached: {what}")
    if isinstance(error, httpx.TimeoutException):
        return TimedOutError(f"no answer in time ({what}); give the client a longer timeout")
    return BrokenAnswerError(f"the connection broke off: {what}")
