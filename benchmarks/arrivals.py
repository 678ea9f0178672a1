"""Open-loop load: requests leave by a Poisson schedule, whether or not the answers keep up.

A closed loop waits while the server is slow and so forgets the requests that would have come then
(coordinated omission). Here every latency counts from the moment at which the request was due.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import selectors
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load import Answers, Post

ANSWER_LIMIT_S = 30.0
"""A request without an answer after that long is lost."""
IDLE_LIMIT_S = 2.0
"""Connections are not taken up again after that long: the server may be closing them just then."""


@dataclass(slots=True)
class Arrivals:
    """What became of the requests: seconds from due to answered of the good ones, and all statuses."""

    sent: int
    wall_s: float
    seconds: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    late_ms: float = 0.0
    """99th percentile of how much later than due requests left: the generator's own error."""

    @property
    def lost(self) -> int:
        """Requests that got no answer at all."""
        return self.sent - sum(self.statuses.values())

    @property
    def unexpected(self) -> int:
        """Answers that are neither good nor a clear no: 200, 503 and 504 are expected."""
        return sum(count for status, count in self.statuses.items() if status not in ("200", "503", "504"))

    def answers(self) -> Answers:
        """The good ones as a closed loop would report them."""
        return Answers(self.seconds, self.sent - len(self.seconds), self.wall_s)


def schedule(rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds from the start at which requests are due: Poisson arrivals, `rate` a second on average."""
    draw, due, times = random.Random(seed), 0.0, []
    while (due := due + draw.expovariate(rate)) < seconds:
        times.append(due)
    return times


def arrive(post: Post, rate: float, seconds: float, seed: int = 0) -> Arrivals:
    """The load by a process of its own, so that nothing of the caller's slows it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "body"
        file.write_bytes(post.body)
        figures = [str(figure) for figure in (rate, seconds, seed)]
        command = [sys.executable, "-m", "benchmarks.arrivals", post.url, str(file), post.media_type]
        output = subprocess.run([*command, *figures], check=True, capture_output=True)
    return Arrivals(**json.loads(output.stdout))


class Connection(asyncio.Protocol):
    """One kept HTTP/1.1 connection with at most one request on it."""

    def __init__(self) -> None:
        self.status: asyncio.Future[str] | None = None
        self._transport: asyncio.Transport | None = None
        self._read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> str:
        """The answer's status once the whole answer is here; ConnectionError where none comes."""
        assert self._transport is not None
        self.status = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self.status

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, blank, rest = self._read.partition(b"\r\n\r\n")
        if blank and len(rest) >= _length(head) and self.status is not None and not self.status.done():
            self._read.clear()
            if b"\r\nconnection: close" in head.lower():
                self.close()
            self.status.set_result(head[9:12].decode())

    def connection_lost(self, exc: Exception | None) -> None:
        if self.status is not None and not self.status.done():
            self.status.set_exception(ConnectionResetError(str(exc)))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _length(head: bytearray) -> float:
    """Content-Length; the servers here always give one."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return math.inf


class Crowd:
    """Sends each request at its time on any idle connection, or on a new one."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._host, self._port, self._request = host, port, request
        self._idle: list[tuple[float, Connection]] = []
        self.seconds: list[float] = []
        self.late: list[float] = []
        self.statuses: Counter[str] = Counter()

    async def run(self, due: list[float]) -> Arrivals:
        """Returns when all are answered or lost."""
        loop = asyncio.get_running_loop()
        start = loop.time() + 0.05
        jobs = []
        for moment in due:
            if (rest := start + moment - loop.time()) > 0:
                await asyncio.sleep(rest)
            jobs.append(loop.create_task(self.send(start + moment)))
        await asyncio.gather(*jobs)
        wall = loop.time() - start
        for _, connection in self._idle:
            connection.close()
        late = sorted(self.late)[int(0.99 * len(self.late))] if self.late else 0.0
        return Arrivals(len(due), wall, self.seconds, dict(self.statuses), round(1000 * late, 3))

    async def send(self, due: float) -> None:
        """One request, noted in the figures; `due` by the loop's clock."""
        loop = asyncio.get_running_loop()
        self.late.append(loop.time() - due)
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                connection = await self._connection()
                status = await connection.ask(self._request)
        except OSError:  # TimeoutError is one
            return
        self.statuses[status] += 1
        if status == "200":
            self.seconds.append(loop.time() - due)
        if connection.is_open:
            self._idle.append((loop.time(), connection))

    async def _connection(self) -> Connection:
        loop = asyncio.get_running_loop()
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_open and loop.time() - since < IDLE_LIMIT_S:
                return connection
            connection.close()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection


def request_bytes(post: Post) -> bytes:
    """The whole POST as it goes over the wire."""
    parts = urlsplit(post.url)
    head = (
        f"POST {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: {post.media_type}\r\nContent-Length: {len(post.body)}\r\n\r\n"
    )
    return head.encode() + post.body


def main() -> None:
    """Called by `arrive` in a process of its own; prints the Arrivals as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arrivals", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("media_type")
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("seed", type=int)
    options = parser.parse_args()
    parts = urlsplit(options.url)
    request = request_bytes(Post(options.url, options.body.read_bytes(), options.media_type))
    crowd = Crowd(parts.hostname or "", parts.port or 80, request)
    due = schedule(options.rate, options.seconds, options.seed)
    # epoll rounds each wait up to a whole millisecond, select takes microseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        json.dump(asdict(runner.run(crowd.run(due))), sys.stdout)


if __name__ == "__main__":
    main()
