"""Places for photos, taken before a body is read, so that the memory of the service has a bound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import QueueFullError


class Admission:
    """Counts the photos and the body bytes inside the service. For the event loop only: no lock."""

    def __init__(self, images: int, body_bytes: int) -> None:
        self.images = images
        self.body_bytes = body_bytes
        self.taken = 0
        self._bytes = 0

    @contextmanager
    def place(self, body_bytes: int) -> Iterator[None]:
        """Holds one place and `body_bytes` bytes; raises QueueFullError where either runs out.

        An empty service takes any body that the body limit lets through.
        """
        over = self.taken > 0 and self._bytes + body_bytes > self.body_bytes
        if self.taken >= self.images or over:
            raise QueueFullError
        self.taken += 1
        self._bytes += body_bytes
        try:
            yield
        finally:
            self.taken -= 1
            self._bytes -= body_bytes
