"""Starting, ready, draining: what the process may do right now."""

from __future__ import annotations

from enum import StrEnum

from service.errors import DrainingError, StartingError


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Lifecycle:
    """One per process. Plain attributes, no locks or events: a signal handler may call `drain`."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING

    def warmed(self) -> None:
        if self.phase is Phase.STARTING:
            self.phase = Phase.READY

    def failed(self) -> None:
        self.phase = Phase.FAILED

    def drain(self) -> None:
        if self.phase is not Phase.FAILED:
            self.phase = Phase.DRAINING

    def require_ready(self) -> None:
        """Raises StartingError or DrainingError unless new work may come in."""
        if self.phase is Phase.DRAINING:
            raise DrainingError
        if self.phase is not Phase.READY:
            raise StartingError
