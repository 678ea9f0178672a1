"""The open-loop load keeps its schedule, whatever the server does, and counts every request once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from benchmarks.arrivals import Arrivals, Crowd, arrive, request_bytes, schedule
from benchmarks.load import Post


def test_arrivals_are_poisson() -> None:
    due = schedule(rate=200, seconds=50, seed=1)
    assert len(due) == pytest.approx(10_000, rel=0.05)
    assert due == sorted(due)
    assert due[-1] < 50
    gaps = [after - before for before, after in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert spread == pytest.approx(mean, rel=0.05)  # of an even beat it would be 0


def test_a_seed_gives_the_same_arrivals() -> None:
    assert schedule(50, 2, seed=3) == schedule(50, 2, seed=3) != schedule(50, 2, seed=4)


class Slow(ThreadingHTTPServer):
    """Answers one request at a time, each after `seconds`; every `refuse`th gets a 503 and is hung up on."""

    def __init__(self, seconds: float = 0.0, refuse: int = 0, silent: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seconds, self.refuse, self.silent = seconds, refuse, silent
        self.heard = self.connections = 0
        self.turn = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Slow

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.turn:
            self.server.heard += 1
            refused = self.server.refuse and self.server.heard % self.server.refuse == 0
            time.sleep(self.server.seconds)
        self.close_connection = bool(refused) or self.server.silent
        if self.server.silent:
            return
        self.send_response(503 if refused else 200)
        self.send_header("Content-Length", "4")
        if refused:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"fa")
        self.wfile.flush()
        self.wfile.write(b"ce")

    def log_message(self, *arguments: object) -> None:
        """Nothing on the test's output."""


@contextmanager
def crowd(slow: Slow) -> Iterator[Crowd]:
    """What sends to `slow`, which runs meanwhile."""
    with slow:
        thread = threading.Thread(target=slow.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Crowd("127.0.0.1", slow.server_port, REQUEST)
        finally:
            slow.shutdown()
            thread.join()


def all_at_once(slow: Slow, count: int) -> Arrivals:
    with crowd(slow) as sender:
        return sender.run([0.0] * count)


REQUEST = request_bytes(Post("http://service/swap?target=echo", b"photo", "image/png"))


def test_the_request_is_whole() -> None:
    assert REQUEST.startswith(b"POST /swap?target=echo HTTP/1.1\r\nHost: service\r\n")
    assert REQUEST.endswith(b"Content-Type: image/png\r\nContent-Length: 5\r\n\r\nphoto")


def test_latency_counts_from_when_a_request_was_due() -> None:
    """Five at once at a server that takes 20 ms each: a closed loop would see 20 ms five times."""
    seconds = sorted(all_at_once(Slow(0.02), 5).seconds)
    assert len(seconds) == 5
    assert all(taken >= 0.02 * number for number, taken in enumerate(seconds, 1))


def test_every_status_is_counted_and_connections_are_kept() -> None:
    slow = Slow(refuse=3)
    with crowd(slow) as sender:
        for answered in range(1, 7):
            sender.send(time.monotonic())
            while sum(sender.statuses.values()) < answered:
                sender.listen(time.monotonic() + 0.01)
    assert sender.statuses == {"200": 4, "503": 2}
    assert len(sender.seconds) == 4
    assert slow.connections == 2, "a new one only after the server has closed the old"


def test_refusals_are_answers_but_not_good_ones() -> None:
    arrivals = all_at_once(Slow(refuse=2), 6)
    assert (arrivals.sent, arrivals.statuses) == (6, {"200": 3, "503": 3})
    assert (arrivals.lost, arrivals.unexpected, arrivals.answers().errors) == (0, 0, 3)


def test_no_answer_is_a_lost_request() -> None:
    arrivals = all_at_once(Slow(silent=True), 2)
    assert (arrivals.sent, arrivals.lost, arrivals.statuses) == (2, 2, {})


def test_a_process_of_its_own_makes_the_load() -> None:
    """Nobody listens at that port: all are lost, and the process still reports."""
    arrivals = arrive(Post("http://127.0.0.1:9/swap?x=1", b"photo"), rate=50, seconds=0.2, seed=0)
    assert arrivals.sent == arrivals.lost == len(schedule(50, 0.2, 0))
