"""The service as a process: what it prints, how it refuses to start, how it stops."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from service import healthcheck
from tests import bundle_edits
from tests.service.fakes import photo
from tests.service.test_keys import made

ROOT = Path(__file__).parents[2]

SLOW = """
import sys, time
from service import logs
from service.__main__ import bind, serve
from service.settings import Settings
from tests.service.fakes import FakeSwapper

logs.configure(Settings().log_level, Settings().log_format)
swapper = FakeSwapper()
swapper.on_encode = lambda crops: time.sleep({seconds})
swapper.on_warm_up = lambda: {warm_up}
settings = Settings(port=0, workers=1, shutdown_grace_s={grace}, batch_window_ms={window})
sys.exit(serve(settings, swapper, bind(settings.host, settings.port)))
"""
"""A service whose encoder takes its time."""


class Process:
    """A service that has said that it is ready."""

    def __init__(self, child: subprocess.Popen[str], first: str, second: str) -> None:
        self.child = child
        self.first, self.second = first, second
        found = re.search(r"http://localhost:(\d+)", first)
        assert found, first
        self.port = int(found[1])

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {"Content-Type": "image/png"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait_until_busy(self) -> None:
        while b'"photos":1' not in self.request("GET", "/health")[1]:
            time.sleep(0.01)

    @contextmanager
    def posted(self) -> Iterator[None]:
        """A client that has sent a whole photo and reads nothing; it leaves at the end."""
        body = photo()
        head = (
            "POST /swap?target=echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(head.encode() + body)
            self.wait_until_busy()
            yield

    def stop(self) -> int:
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(60)


@contextmanager
def slow_service(
    log: IO[str], seconds: float = 0.0, grace: float = 10.0, window: float = 0.0
) -> Iterator[Process]:
    code = SLOW.format(seconds=seconds, grace=grace, window=window, warm_up=None)
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
    )
    assert child.stdout is not None
    try:
        yield Process(child, child.stdout.readline(), child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[IO[str]]:
    with (tmp_path / "log").open("w+") as file:
        yield file


def read(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def until_logged(log: IO[str], words: str) -> None:
    for _ in range(1000):
        if words in read(log):
            return
        time.sleep(0.01)
    raise AssertionError(f"no {words!r} in the log:\n{read(log)}")


def test_it_says_that_it_is_ready_and_what_to_paste_and_stops_with_0(log: IO[str]) -> None:
    with slow_service(log) as service:
        assert f"faceswapd is ready: http://localhost:{service.port} (echo, negative;" in service.first
        assert service.second == (
            f"  curl -F image=@examples/a.jpg 'localhost:{service.port}/swap?target=echo' -o echo.png\n"
        )
        assert healthcheck.main([f"http://127.0.0.1:{service.port}/health/ready"]) == 0
        assert service.request("POST", "/swap?target=echo", photo())[0] == 200
        assert service.stop() == 0
        assert healthcheck.main([f"http://127.0.0.1:{service.port}/health/ready"]) == 1
    assert "Traceback" not in read(log)


def test_sigterm_turns_ready_red_first_and_lets_requests_finish(log: IO[str]) -> None:
    with slow_service(log, seconds=2.5) as service:
        answers: list[tuple[int, bytes]] = []
        asking = threading.Thread(
            target=lambda: answers.append(service.request("POST", "/swap?target=echo", photo()))
        )
        asking.start()
        service.wait_until_busy()
        service.child.send_signal(signal.SIGTERM)
        while (ready := service.request("GET", "/health/ready"))[0] == 200:
            time.sleep(0.01)
        live = service.request("GET", "/health/live")
        refused = service.request("POST", "/swap?target=echo", photo())
        asking.join()
        assert service.child.wait(20) == 0
    assert (ready[0], live[0], refused[0]) == (503, 200, 503)
    assert b"/problems/draining" in ready[1]
    assert b"/problems/draining" in refused[1]
    assert answers[0][0] == 200


def test_the_grace_period_has_an_end(log: IO[str]) -> None:
    """It ends, however long that takes here: the photo alone would take it an hour."""
    with slow_service(log, seconds=3600, grace=0.2) as service, service.posted():
        assert service.stop() == 0


def test_a_client_that_left_is_not_worked_for(log: IO[str]) -> None:
    with slow_service(log, window=500) as service:
        with service.posted():
            pass
        until_logged(log, "POST /swap 499 ")
        assert b'"photos":0' in service.request("GET", "/health")[1]
        assert service.stop() == 0


def test_a_refusal_before_the_body_leaves_the_connection_usable(log: IO[str]) -> None:
    with slow_service(log) as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
        for status in (404, 404):
            connection.request("POST", "/swap?target=nobody", b"x" * 1_000_000, {"Content-Type": "image/png"})
            answer = connection.getresponse()
            assert (answer.status, b"unknown-identity" in answer.read()) == (status, True)
        connection.request("GET", "/health/live")
        assert connection.getresponse().status == 200
        connection.close()
        assert service.stop() == 0


def refusal(*options: str, **environment: str) -> str:
    """The one line on stderr of a service that refuses to start."""
    child = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0", *options],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (child.returncode, child.stdout) == (2, ""), child.stderr
    assert re.fullmatch(r"faceswapd: [^\n]+\n", child.stderr), child.stderr
    return child.stderr


def test_a_warm_up_that_fails_is_one_line() -> None:
    code = SLOW.format(seconds=0, grace=1, window=0, warm_up="swapper.check('nobody')")
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (child.returncode, child.stdout) == (2, "")
    line = r"[^\n]*cannot start: there is no identity 'nobody'[^\n]*\n"
    assert re.fullmatch(line, child.stderr), child.stderr


def test_a_missing_bundle_is_one_line(tmp_path: Path) -> None:
    assert "nowhere" in refusal("--bundle", str(tmp_path / "nowhere"))


def test_a_broken_bundle_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    assert "manifest.json" in refusal("--bundle", str(tmp_path))


def test_a_wrong_setting_is_one_line() -> None:
    assert "FACESWAPD_DEVICE" in refusal("--device", "abacus")
    assert "FACESWAPD_DEADLINE_MS" in refusal(FACESWAPD_DEADLINE_MS="-1")


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert "cannot listen" in refusal("--port", str(other.getsockname()[1]))


def test_sighup_reloads_the_bundle(log: IO[str], identity_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(identity_bundle, tmp_path / "bundle"))
    command = [sys.executable, "-m", "service", "--port", "0", "--bundle", str(bundle), "--device", "cpu"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    assert child.stdout is not None
    try:
        service = Process(child, child.stdout.readline(), child.stdout.readline())
        assert service.request("POST", "/swap?target=mirror&crop=none", photo())[0] == 404
        bundle_edits.add(bundle, "mirror", like="negative")
        child.send_signal(signal.SIGHUP)
        until_logged(log, '"added":["mirror"]')
        assert service.request("POST", "/swap?target=mirror&crop=none", photo())[0] == 200
        bundle_edits.ruin(bundle, "mirror")
        child.send_signal(signal.SIGHUP)
        until_logged(log, "the old one goes on")
        assert service.request("POST", "/swap?target=mirror&crop=none", photo())[0] == 200
        assert service.stop() == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert "Traceback" not in read(log)


KEYED = """
import sys
from service import logs
from service.__main__ import bind, serve
from service.settings import Settings
from tests.service.fakes import FakeSwapper

settings = Settings(port=0, workers=1)
logs.configure(settings.log_level, settings.log_format)
sys.exit(serve(settings, FakeSwapper(), bind(settings.host, settings.port)))
"""


@contextmanager
def keyed_service(log: IO[str], **settings: str) -> Iterator[Process]:
    environment = os.environ | {f"FACESWAPD_{name.upper()}": value for name, value in settings.items()}
    child = subprocess.Popen(
        [sys.executable, "-c", KEYED],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    assert child.stdout is not None
    try:
        yield Process(child, child.stdout.readline(), child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def with_key(port: int, key: str, path: str = "/identities") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_sighup_takes_up_new_keys_and_revokes_old_ones(log: IO[str], tmp_path: Path) -> None:
    (old, first), (new, second) = made(), made()
    file = tmp_path / "keys.jsonl"
    file.write_text(old)
    with keyed_service(log, keys_file=str(file)) as service:
        assert [with_key(service.port, key) for key in (first, second)] == [200, 401]
        file.write_text(new)
        service.child.send_signal(signal.SIGHUP)
        until_logged(log, "keys: 1, of them new: 1; revoked: 1")
        assert [with_key(service.port, key) for key in (first, second)] == [401, 200]
        file.write_text("{")
        service.child.send_signal(signal.SIGHUP)
        until_logged(log, "the keys were not reloaded, the old ones go on")
        assert with_key(service.port, second) == 200
        service.request("GET", f"/identities?key={second}")
        service.request("GET", f"/{second}")
        assert service.stop() == 0
    told = read(log)
    assert second not in told and "GET (none) 401" in told


def test_admin_listens_on_a_port_of_its_own(log: IO[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = "a key that nobody guesses"
    with keyed_service(log, admin_port=str(port), admin_key=key) as service:
        assert with_key(service.port, key, "/admin/x") == 404
        assert with_key(service.port, key, "/identities") == 200
        assert with_key(port, key, "/identities") == 404
        assert with_key(port, key, "/health/live") == 200
        assert with_key(port, "another key", "/admin/x") == 401
        assert service.stop() == 0


def test_a_head_that_does_not_come_is_closed_while_the_service_runs(log: IO[str]) -> None:
    with keyed_service(log, head_timeout_s="0.2") as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\n")
            assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")
        until_logged(log, "closed connections: 1 for slow head")
        assert service.request("GET", "/health/live")[0] == 200
        assert service.stop() == 0


def test_a_service_that_others_can_reach_refuses_to_start_without_keys(identity_bundle: Path) -> None:
    told = refusal("--host", "0.0.0.0", "--bundle", str(identity_bundle))
    assert "python -m service.keys new" in told and "FACESWAPD_ANYONE_MAY_SWAP=true" in told
    told = refusal("--bundle", str(identity_bundle), FACESWAPD_KEYS="{")
    assert "FACESWAPD_KEYS, line 1" in told
    assert "FACESWAPD_ADMIN_PORT: " in refusal("--port", "8000", FACESWAPD_ADMIN_PORT="8000")
    told = refusal(FACESWAPD_ADMIN_PORT="8001", FACESWAPD_PROCESSES="2")
    assert "FACESWAPD_ADMIN_PORT: " in told and "FACESWAPD_PROCESSES" in told
