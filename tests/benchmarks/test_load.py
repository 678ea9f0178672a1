"""The load generators count what a server answered."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import load


class EveryThirdFails(ThreadingHTTPServer):
    """Answers 200, to every third request 503; keeps the bodies."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.url = f"http://127.0.0.1:{self.server_port}/swap?target=echo"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: EveryThirdFails

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(503 if len(self.server.bodies) % 3 == 0 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments: object) -> None:
        """Nothing on the test's output."""


@pytest.fixture
def server() -> Iterator[EveryThirdFails]:
    with EveryThirdFails() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_python_counts_good_answers_and_errors(server: EveryThirdFails, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(load.multipart(b"picture"))
    answers = load._by_python(server.url, body, concurrency=2, requests=12)
    assert (len(answers.seconds), answers.errors) == (8, 4)
    assert set(server.bodies) == {body.read_bytes()}
    assert answers.rate > 0


@pytest.mark.skipif(not shutil.which("hey"), reason="hey is not installed")
def test_hey_counts_the_same(server: EveryThirdFails, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(load.multipart(b"picture"))
    answers = load._by_hey(server.url, body, concurrency=2, requests=12)
    assert (len(answers.seconds), answers.errors) == (8, 4)
    assert set(server.bodies) == {body.read_bytes()}


def test_requests_are_the_same_for_every_connection(server: EveryThirdFails) -> None:
    load.send(server.url, b"x", concurrency=4, requests=5)
    assert len(server.bodies) == 8


def test_no_answer_at_all_is_an_error(tmp_path: Path) -> None:
    with EveryThirdFails() as closed:
        url = closed.url
    body = tmp_path / "body"
    body.write_bytes(b"x")
    answers = load._by_python(url, body, concurrency=1, requests=2)
    assert (answers.seconds, answers.errors, answers.rate) == ([], 2, 0.0)


def test_percentiles_are_milliseconds() -> None:
    answers = load.Answers([0.001 * n for n in range(1, 101)], errors=0, wall_s=1.0)
    assert answers.percentile(50) == pytest.approx(50.5)
    assert answers.percentile(95) == pytest.approx(95.05)
    assert load.Answers([0.5], 0, 1.0).percentile(95) == 500
    assert math.isnan(load.Answers([], 1, 1.0).percentile(50))
