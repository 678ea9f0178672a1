"""All connections together: how many there may be, whose turn it is to go, and which are too slow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from service.addresses import NOWHERE, Networks, household
from service.settings import Settings

SWEEP_S = 0.5
_OTHER_FILES = 256
"""Descriptors for what is no connection: decoders, the bundle, the log, the loop's own."""
_ACKED_AT = 120
"""Where Linux keeps tcpi_bytes_acked in struct tcp_info (include/uapi/linux/tcp.h, since 4.1)."""

log = logging.getLogger("faceswapd.crowd")


@dataclass(slots=True)
class Pace:
    """Bytes of one direction over windows of some seconds. It is slow when a window brings too few."""

    since: float = 0.0
    count: int = 0
    runs: bool = False

    def rest(self) -> None:
        self.runs = False

    def is_slow(self, now: float, count: int, window_s: float, least_per_s: float) -> bool:
        """To be asked now and then while there is something to move; `count` is the sum so far."""
        if not self.runs:
            self.since, self.count, self.runs = now, count, True
        if now - self.since < window_s:
            return False
        slow = count - self.count < max(least_per_s * window_s, 1)
        self.since, self.count = now, count
        return slow


class Connection(Protocol):
    """What the crowd knows of one: an HTTP connection or a WebSocket."""

    transport: asyncio.Transport
    answer_pace: Pace

    def is_new(self) -> bool:
        """Has it not sent a byte so far?"""

    def late(self, now: float) -> str | None:
        """What it is to be closed for: a word for the log; None while it keeps time."""

    def hang_up(self, why: str) -> None:
        """Says so, if there is still somebody to say it to, and closes."""


class Crowd:
    """Counts connections, makes room among the idle ones, and cuts off the slow. For the event loop only."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.closed: Counter[str] = Counter()
        """How many were closed, by why."""
        self.leaving = False
        """The service stops: each connection has one more answer."""
        self.lingering = 0
        """Refused ones that are not counted as connections: their ends are still to read the answer."""
        self._trusted = Networks(settings.trusted_proxies)
        self._homes: dict[Connection, str] = {}
        self._at_home: Counter[str] = Counter()
        self._idle: dict[Connection, None] = {}  # the longest idle first

    def __len__(self) -> int:
        return len(self._homes)

    def came(self, connection: Connection) -> bool:
        """False where there is no room, even after the longest idle one was sent away."""
        home = self._home(connection)
        settings = self.settings
        if home and self._at_home[home] >= settings.connections_per_address and not self._make_room(home):
            return False
        if len(self._homes) >= settings.connections and not self._make_room():
            return False
        self._homes[connection] = home
        self._at_home[home] += 1
        return True

    def left(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        home = self._homes.pop(connection, None)
        if home is not None:
            self._at_home[home] -= 1
            if not self._at_home[home]:
                del self._at_home[home]

    def idles(self, connection: Connection) -> None:
        if connection in self._homes:
            self._idle[connection] = None

    def works(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def has_newcomers(self) -> bool:
        return any(connection.is_new() for connection in self._homes)

    async def watch(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                self.sweep(loop.time())
            except Exception:  # one odd connection must not end the watch over all others
                log.exception("a sweep over the connections failed")

    def sweep(self, now: float) -> None:
        """Closes what is late or slow; one line in the log, however many they are."""
        before = self.closed.copy()
        waiting = 0
        for connection in list(self._homes):
            size = connection.transport.get_write_buffer_size()
            waiting += size
            if size and self._reads_slowly(connection, now, size):
                self._abort(connection, "slow reader")
            elif not size:
                connection.answer_pace.rest()
            if why := connection.late(now):
                self._send_away(connection, why)
        if waiting > self.settings.answer_bytes:
            self._cut_answers(waiting - self.settings.answer_bytes)
        if fresh := self.closed - before:
            told = ", ".join(f"{count} for {why}" for why, count in sorted(fresh.items()))
            log.info("closed connections: %s; %d are open", told, len(self._homes))

    def _home(self, connection: Connection) -> str:
        """Whom it counts for; proxies speak for many."""
        peer = connection.transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) and peer else NOWHERE
        return "" if address in self._trusted else household(address)

    def _make_room(self, home: str | None = None) -> bool:
        for connection in self._idle:
            if home is None or self._homes[connection] == home:
                self._send_away(connection, "room")
                return True
        return False

    def _send_away(self, connection: Connection, why: str) -> None:
        if connection.transport.get_write_buffer_size():
            self._abort(connection, why)  # a close would wait for somebody to read that
            return
        self.closed[why] += 1
        connection.hang_up(why)
        self.left(connection)

    def _abort(self, connection: Connection, why: str) -> None:
        self.closed[why] += 1
        connection.transport.abort()
        self.left(connection)

    def _reads_slowly(self, connection: Connection, now: float, size: int) -> bool:
        settings = self.settings
        count = _acknowledged(connection.transport, size)
        return connection.answer_pace.is_slow(
            now, count, settings.answer_timeout_s, settings.slowest_bytes_per_s
        )

    def _cut_answers(self, excess: int) -> None:
        """The largest first: few clients pay for it, and memory comes back at once."""
        sizes = {connection: connection.transport.get_write_buffer_size() for connection in self._homes}
        for connection in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if excess <= 0:
                return
            excess -= sizes[connection]
            self._abort(connection, "memory of answers")


def _acknowledged(transport: asyncio.Transport, waiting: int) -> int:
    """Bytes that the peer has confirmed so far, by the kernel; where it cannot tell, less as more wait."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, struct.error, AttributeError):
        found: int = struct.unpack_from(
            "=Q", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), _ACKED_AT
        )[0]
        return found
    return -waiting


def allow_files(connections: int) -> int:
    """Raises the soft limit of open files to what so many connections need; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < wanted:
        log.warning("%d open files are allowed, %d connections need %d", limit, connections, wanted)
    return limit
