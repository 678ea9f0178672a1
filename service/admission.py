"""Places for faces, taken before a body is read, so that the memory of the service has a bound."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from service.errors import QueueFullError, StreamsFullError


class Admission:
    """Counts the faces and the body bytes inside the service. For the event loop only: no lock.

    A photo counts once for each identity that it is to become. An empty service takes any photo that
    the other limits let through.
    """

    def __init__(self, images: int, body_bytes: int) -> None:
        self.images = images
        self.body_bytes = body_bytes
        self.taken = 0
        self._bytes = 0
        self._patient: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._patient_taken = 0

    @contextmanager
    def place(self, body_bytes: int, images: int = 1) -> Iterator[None]:
        """Holds `images` places and `body_bytes` bytes; raises QueueFullError where either runs out."""
        over = self.taken > 0 and self._bytes + body_bytes > self.body_bytes
        if over or not self._has_room(images):
            raise QueueFullError
        self.taken += images
        self._bytes += body_bytes
        try:
            yield
        finally:
            self._bytes -= body_bytes
            self._give_back(images)

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


class Seats:
    """Counts the streams. For the event loop only."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Raises StreamsFullError where there is none."""
        if self.taken >= self.limit:
            raise StreamsFullError(self.limit)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
