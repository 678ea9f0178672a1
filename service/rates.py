"""How much one may ask for: token buckets, counted in faces, for keys and for addresses.

A bucket is one number, the time at which it will be full again, so it takes no more than an entry of a
dictionary, and one that is full is not kept at all.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.errors import RateLimitError

MOST_BUCKETS = 16_384
"""About 3 MB of addresses. Above it the one that has been quiet for the longest is forgiven."""
_ROUNDING = 1e-4
"""Of a face or a second: no reason to send anyone away, or to name a second more."""

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` faces at once, `per_s` in the long run."""

    per_s: float
    burst: int


class Buckets:
    """One bucket for each client of a kind. For the event loop only."""

    def __init__(
        self, name: str, most: int = MOST_BUCKETS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._most = most
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def left(self, who: str, rate: Rate) -> float:
        """Faces that are in the bucket now; below zero for who has a debt."""
        return rate.burst - self._filling_s(who) * rate.per_s

    def take(self, who: str, rate: Rate, faces: int) -> None:
        """Takes them, be there so many or not: what is missing is waited for before the next request."""
        now = self._clock()
        self._full_at[who] = max(self._full_at.pop(who, now), now) + faces / rate.per_s
        while self._full_at:
            oldest = next(iter(self._full_at))
            if len(self._full_at) <= self._most and self._full_at[oldest] > now:
                return
            del self._full_at[oldest]

    def full_in_s(self, who: str) -> float:
        return self._filling_s(who)

    def _filling_s(self, who: str) -> float:
        full_at = self._full_at.get(who)
        return 0.0 if full_at is None else max(full_at - self._clock(), 0.0)


@dataclass(frozen=True, slots=True)
class Account:
    """Whose bucket of which kind."""

    buckets: Buckets
    who: str
    rate: Rate

    def wait_s(self) -> float:
        """Until there is a face; 0 if there is one."""
        missing = 1 - self.buckets.left(self.who, self.rate)
        return missing / self.rate.per_s if missing > _ROUNDING else 0.0


class Meter:
    """What one caller pays with: all accounts together, or none. Without an account all is free."""

    __slots__ = ("_accounts",)

    def __init__(self, accounts: tuple[Account, ...] = ()) -> None:
        self._accounts = accounts

    def take(self, faces: int = 1) -> None:
        """RateLimitError where an account has no face left; one is enough to take any number."""
        waits = [account.wait_s() for account in self._accounts]
        if any(waits):
            wait_s = max(waits)
            raise RateLimitError(
                self._accounts[waits.index(wait_s)].buckets.name, math.ceil(wait_s - _ROUNDING)
            )
        self.add(faces)

    def add(self, faces: int) -> None:
        """What turns out later: a batch was let in by its first face and pays for the others now."""
        if faces > 0:
            for account in self._accounts:
                account.buckets.take(account.who, account.rate, faces)

    def headers(self) -> Headers:
        """RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-10."""
        if not self._accounts:
            return []
        policies, states = [], []
        for account in self._accounts:
            rate, name = account.rate, account.buckets.name
            left = max(math.floor(account.buckets.left(account.who, rate) + _ROUNDING), 0)
            full_in_s = math.ceil(account.buckets.full_in_s(account.who) - _ROUNDING)
            policies.append(f'"{name}";q={rate.burst};w={math.ceil(rate.burst / rate.per_s)}')
            states.append(f'"{name}";r={left};t={full_in_s}')
        return [
            (b"ratelimit-policy", ", ".join(policies).encode()),
            (b"ratelimit", ", ".join(states).encode()),
        ]


FREE = Meter()


def meter_of(scope: Any) -> Meter:
    """Of a request or a stream, by its ASGI scope."""
    meter: Meter = scope.get("state", {}).get("meter", FREE)
    return meter
