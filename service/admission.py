"""Places for faces, taken before a body is read, so that the memory of the service has a bound."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from service.errors import BodyMadeRoomError, QueueFullError, StreamsFullError

T = TypeVar("T")

BODY_GRACE_S = 2.0
"""So long a body may come in peace, however full the service is, unless it creeps."""
CREEPING_S, CREEPING_BYTES_PER_S = 0.5, 20_000
"""It creeps if it brought so little in at least this time."""
SILENCE_S = 5.0
"""So long a stream may be silent while others wait for its seat; a camera sends many frames in that time."""


class Place:
    """What a request holds: `images` places and its body's bytes, until it is released."""

    __slots__ = ("_admission", "body_bytes", "coming_since", "images", "is_held", "limit", "received")

    def __init__(self, admission: Admission, body_bytes: int, images: int) -> None:
        self._admission = admission
        self.body_bytes = body_bytes
        self.images = images
        self.is_held = True
        self.limit: asyncio.Timeout | None = None
        self.coming_since = 0.0
        self.received = 0

    def heard(self, count: int) -> None:
        """So many bytes of the body have come."""
        self.received += count

    def pace(self, now: float) -> float:
        """Bytes of the body per second so far."""
        return self.received / max(now - self.coming_since, 1e-3)

    async def filled(self, body: Awaitable[T]) -> T:
        """The body, once it is here. BodyMadeRoomError where it came so slowly that others take its place."""
        coming = self._admission.coming
        self.coming_since = time.monotonic()
        coming[self] = None
        try:
            async with asyncio.timeout(None) as self.limit:
                return await body
        except TimeoutError:
            if self.is_held:
                raise
            raise BodyMadeRoomError from None
        finally:
            coming.pop(self, None)


class Admission:
    """Counts the faces and the body bytes inside the service. For the event loop only: no lock.

    A photo counts once for each identity that it is to become. An empty service takes any photo that
    the other limits let through.
    """

    def __init__(self, images: int, body_bytes: int, body_grace_s: float = BODY_GRACE_S) -> None:
        self.images = images
        self.body_bytes = body_bytes
        self.body_grace_s = body_grace_s
        self.taken = 0
        self.coming: dict[Place, None] = {}
        """Places whose bodies are on their way."""
        self._bytes = 0
        self._patient: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._patient_taken = 0

    @contextmanager
    def place(self, body_bytes: int, images: int = 1) -> Iterator[Place]:
        """Holds `images` places and `body_bytes` bytes; raises QueueFullError where either runs out."""
        while not self._fits(body_bytes, images):
            self._make_room()
        place = Place(self, body_bytes, images)
        self.taken += images
        self._bytes += body_bytes
        try:
            yield place
        finally:
            self._release(place)

    def is_full(self, images: int) -> bool:
        """Would `place` refuse so many for want of places?"""
        return not self._has_room(images) and self._slowest() is None

    def _fits(self, body_bytes: int, images: int) -> bool:
        over = self.taken > 0 and self._bytes + body_bytes > self.body_bytes
        return not over and self._has_room(images)

    def _make_room(self) -> None:
        """Takes the place of the body that comes most slowly; QueueFullError if none should go."""
        slowest = self._slowest()
        if slowest is None:
            raise QueueFullError
        del self.coming[slowest]
        self._release(slowest)
        assert slowest.limit is not None
        slowest.limit.reschedule(asyncio.get_running_loop().time())

    def _slowest(self) -> Place | None:
        """The place that should go for another to come.

        Only where bodies on their way hold more than half of what there is: then the service is not busy,
        but waits for slow lines, be they bad luck or an attack.
        """
        images = sum(place.images for place in self.coming)
        body_bytes = sum(place.body_bytes for place in self.coming)
        if 2 * images <= self.images and 2 * body_bytes <= self.body_bytes:
            return None
        now = time.monotonic()
        late = [place for place in self.coming if self._is_late(place, now)]
        return min(late, key=lambda place: place.pace(now), default=None)

    def _is_late(self, place: Place, now: float) -> bool:
        coming_s = now - place.coming_since
        creeps = coming_s >= CREEPING_S and place.pace(now) < CREEPING_BYTES_PER_S
        return creeps or coming_s >= self.body_grace_s

    def _release(self, place: Place) -> None:
        if place.is_held:
            place.is_held = False
            self._bytes -= place.body_bytes
            self._give_back(place.images)

    @asynccontextmanager
    async def patient_place(self, images: int) -> AsyncIterator[None]:
        """The same for a photo of a batch, whose bytes are counted already: it waits for its turn.

        One such photo may always be inside, however full the service is: a batch never stands still.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._patient.append((images, turn))
        self._call_the_patient()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._patient_taken -= images
                self._give_back(images)

    def _has_room(self, images: int) -> bool:
        return self.taken == 0 or self.taken + images <= self.images

    def _give_back(self, images: int) -> None:
        self.taken -= images
        self._call_the_patient()

    def _call_the_patient(self) -> None:
        while self._patient:
            images, turn = self._patient[0]
            if not turn.done():  # else its client has left
                if self._patient_taken and not self._has_room(images):
                    return
                self._patient_taken += images
                self.taken += images
                turn.set_result(None)
            self._patient.popleft()


class Seat:
    """Of one stream; `waits` is told each time when it begins to wait for a frame."""

    __slots__ = ("is_held", "limit", "since")

    def __init__(self) -> None:
        self.is_held = True
        self.since = time.monotonic()
        self.limit: asyncio.Timeout | None = None

    def waits(self, limit: asyncio.Timeout) -> None:
        self.since, self.limit = time.monotonic(), limit

    def is_silent(self, grace_s: float) -> bool:
        waits = self.limit is not None and not self.limit.expired()
        return waits and time.monotonic() - self.since > grace_s


class Seats:
    """Counts the streams. For the event loop only. Who is silent gives way to who comes."""

    def __init__(self, limit: int, silence_s: float = SILENCE_S) -> None:
        self.limit = limit
        self.silence_s = silence_s
        self._seats: dict[Seat, None] = {}

    @property
    def taken(self) -> int:
        return len(self._seats)

    @contextmanager
    def seat(self) -> Iterator[Seat]:
        """Raises StreamsFullError where there is none."""
        if self.taken >= self.limit:
            self._make_room()
        seat = Seat()
        self._seats[seat] = None
        try:
            yield seat
        finally:
            self._seats.pop(seat, None)

    def _make_room(self) -> None:
        silent = [seat for seat in self._seats if seat.is_silent(self.silence_s)]
        if not silent:
            raise StreamsFullError(self.limit)
        longest = min(silent, key=lambda seat: seat.since)
        del self._seats[longest]
        longest.is_held = False
        assert longest.limit is not None
        longest.limit.reschedule(asyncio.get_running_loop().time())
