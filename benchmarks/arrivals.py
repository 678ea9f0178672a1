"""Open-loop load: requests leave by a Poisson schedule, whether or not the answers keep up.

A closed loop waits while the server is slow and so forgets the requests that would have come then
(coordinated omission). Here every latency counts from the moment at which the request was due.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
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
    cores: float = 0.0
    """What the generator kept busy; the server has so much less."""

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


class Connection:
    """One kept HTTP/1.1 connection with at most one request on it, which was `due` then."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        """ConnectionError where nobody listens."""
        self.due = self.idle_since = 0.0
        self._request = request
        self._read = b""
        self._socket = socket.create_connection((host, port), ANSWER_LIMIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        room = max(4 * len(request), 2**17)  # the kernel takes the whole request at once
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def ask(self, due: float) -> None:
        """OSError where the server has hung up."""
        self.due = due
        if self._socket.send(self._request) < len(self._request):
            raise OSError("the request did not leave at once")

    def answer(self) -> str | None:
        """The answer's status once all of it is here; ConnectionError where it breaks off."""
        piece = self._socket.recv(2**18)
        if not piece:
            raise ConnectionResetError
        self._read += piece
        head, blank, rest = self._read.partition(b"\r\n\r\n")
        if not blank or len(rest) < _length(head):
            return None
        self._read = b""
        if _CLOSE.search(head):
            self.close()
        return head[9:12].decode()

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() >= 0

    def close(self) -> None:
        self._socket.close()


_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


def _length(head: bytes) -> float:
    """Content-Length; the servers here always give one."""
    found = _LENGTH.search(head)
    return int(found[1]) if found else math.inf


class Crowd:
    """Sends each request at its time on any idle connection, or on a new one.

    Bare sockets: asyncio takes three times the processor time, which is missing on the cores of the server.
    """

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._host, self._port, self._request = host, port, request
        self._idle: list[Connection] = []
        self._asked: dict[int, Connection] = {}
        self._ready = select.epoll()
        self.seconds: list[float] = []
        self.late: list[float] = []
        self.statuses: Counter[str] = Counter()

    def run(self, due: list[float]) -> Arrivals:
        """Returns when all are answered or lost; `due` in seconds from now."""
        start, busy = time.monotonic() + 0.05, time.process_time()
        for moment in due:
            self.listen(start + moment)
            self.send(start + moment)
        end = time.monotonic() + ANSWER_LIMIT_S
        while self._asked and time.monotonic() < end:
            self.listen(time.monotonic() + 0.01)
        wall = time.monotonic() - start
        for connection in (*self._idle, *self._asked.values()):
            connection.close()
        late = sorted(self.late)[int(0.99 * len(self.late))] if self.late else 0.0
        cores = round((time.process_time() - busy) / wall, 3)
        return Arrivals(len(due), wall, self.seconds, dict(self.statuses), round(1000 * late, 3), cores)

    def send(self, due: float) -> None:
        """One request; `due` by time.monotonic()."""
        self.late.append(time.monotonic() - due)
        try:
            connection = self._connection()
            connection.ask(due)
        except OSError:  # lost
            return
        self._asked[connection.fileno()] = connection

    def listen(self, until: float) -> None:
        """Notes the answers that come; looks at least once."""
        while True:
            rest = max(until - time.monotonic(), 0.0)
            # epoll rounds each wait up to a whole millisecond, select takes microseconds.
            if rest:
                select.select([self._ready], [], [], rest)
            for number, _ in self._ready.poll(0):
                self._note(number)
            if not rest:
                return

    def _note(self, number: int) -> None:
        connection = self._asked.get(number) or next(c for c in self._idle if c.fileno() == number)
        try:
            status = connection.answer()
        except OSError:  # the server has hung up, which loses a request if there is one
            connection.close()
            status = None
        if status is None and connection.is_open:
            return
        asked = self._asked.pop(number, None)
        if asked is None:
            self._idle.remove(connection)
        now = time.monotonic()
        if status is not None and asked is not None and now - connection.due <= ANSWER_LIMIT_S:
            self.statuses[status] += 1
            if status == "200":
                self.seconds.append(now - connection.due)
        if connection.is_open:
            connection.idle_since = now
            self._idle.append(connection)

    def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.idle_since < IDLE_LIMIT_S:
                return connection
            connection.close()
        connection = Connection(self._host, self._port, self._request)
        self._ready.register(connection, select.EPOLLIN)
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
    json.dump(asdict(crowd.run(due)), sys.stdout)


if __name__ == "__main__":
    main()
