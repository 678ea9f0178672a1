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
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from service.crowd import Crowd
from service.keys import KeysError
from service.lifecycle import Phase
from service.listening import admit_no_more
from service.parts import Parts

_TICK_S = 0.05
_LAST_WORDS_S, _FIRST_WORDS_S = 0.1, 1.0
"""For requests that are about to come: of any connection, and at most of those that have not said a word."""

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
        self._last: list[asyncio.Task[None]] = []

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
        self._crowd.leaving = True
        await self._wait_until_idle(started)
        await self._stop_listening(sockets or [])
        await self._hear_last_words()
        left = self._parts.settings.shutdown_grace_s - (time.monotonic() - started)
        self.config.timeout_graceful_shutdown = max(round(left), 1)  # for answers still on the wire
        await super().shutdown(sockets)
        self._watching.cancel()

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Takes in who has connected already: with a listening socket its queue would be cut off."""
        if self._parts.settings.processes == 1:  # the others of a family go on listening
            for listener in sockets:
                admit_no_more(listener)
            await asyncio.sleep(_TICK_S)  # handshakes under way come to their end
        loop = asyncio.get_running_loop()
        for listener in sockets:
            loop.remove_reader(listener)
        for _ in range(2):  # asyncio drops what it has accepted and not yet given to a closed server
            await asyncio.sleep(0)
        for listener in sockets:
            listener.setblocking(False)
            with suppress(OSError):  # BlockingIOError: that was the last one
                while True:
                    client, _ = listener.accept()
                    client.setblocking(False)
                    self._last.append(loop.create_task(self._take_in(client)))
        for server in self.servers:
            server.close()

    async def _hear_last_words(self) -> None:
        """Requests that are on their way are answered, with 503."""
        await asyncio.sleep(_LAST_WORDS_S)
        for _ in range(round(_FIRST_WORDS_S / _TICK_S)):
            if self.force_exit or not self._crowd.has_newcomers():
                return
            await asyncio.sleep(_TICK_S)

    async def _take_in(self, client: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, client)

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes one for a connection."""
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def _wait_until_idle(self, started: float) -> None:
        settings = self._parts.settings
        while not self.force_exit:
            passed = time.monotonic() - started
            busy = self._parts.admission.taken > 0 and passed < settings.shutdown_grace_s
            if not busy and passed >= settings.drain_s:
                return
            await asyncio.sleep(_TICK_S)
