"""uvicorn with manners: ready turns red before the sockets close, and a stop on request exits with 0.

A service whose device has failed stops by itself, with another exit code.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from service.crowd import Crowd
from service.keys import KeysError
from service.lifecycle import Phase
from service.parts import Parts

_TICK_S = 0.05

log = logging.getLogger("faceswapd.server")


class Server(uvicorn.Server):
    """Serves one app; calls `on_ready` once its networks are warm."""

    def __init__(
        self, config: uvicorn.Config, parts: Parts, crowd: Crowd, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._parts = parts
        self._crowd = crowd
        self._on_ready = on_ready
        self._announced = False

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Not uvicorn's own: that one raises the signal again at the end, so that SIGTERM exits with 143."""
        self._parts.lifecycle.drain()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True  # Ctrl-C twice: now
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        self._watching = asyncio.create_task(self._crowd.watch())

    def _reload(self) -> None:
        """The keys and the bundle, each for itself: a broken bundle does not keep a revoked key alive."""
        try:
            self._parts.keyring.reload()
        except KeysError as error:
            log.error("the keys were not reloaded, the old ones go on: %s", error)
        self._parts.reloader.on_signal()

    async def on_tick(self, counter: int) -> bool:
        phase = self._parts.lifecycle.phase
        if phase is Phase.READY and not self._announced:
            self._announced = True
            self._on_ready()
        if phase is Phase.READY and self._parts.swapper.failure is not None:
            self._parts.lifecycle.failed()  # what is in flight is answered, then a supervisor starts another
        if phase is Phase.FAILED:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stays reachable while requests finish: /health/ready says 503 and new swaps are refused."""
        started = time.monotonic()
        self._parts.lifecycle.drain()
        await self._wait_until_idle(started)
        left = self._parts.settings.shutdown_grace_s - (time.monotonic() - started)
        self.config.timeout_graceful_shutdown = max(round(left), 1)  # for answers still on the wire
        await super().shutdown(sockets)
        self._watching.cancel()

    async def _wait_until_idle(self, started: float) -> None:
        settings = self._parts.settings
        while not self.force_exit:
            passed = time.monotonic() - started
            busy = self._parts.admission.taken > 0 and passed < settings.shutdown_grace_s
            if not busy and passed >= settings.drain_s:
                return
            await asyncio.sleep(_TICK_S)
