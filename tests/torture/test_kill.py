"""SIGKILL under load: what restarts a container restarts the service, and liveness never lies meanwhile."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.server import HOST, free_port, is_ready
from tests.service.fakes import photo
from tests.torture.sizes import Tally, sized

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "service", "--device", "cpu", "--host", HOST]
NULL = subprocess.DEVNULL
LOST, REFUSED = 0, -1


class Supervisor:
    """`restart: unless-stopped` of docker-compose.yml: starts the service whenever it has ended."""

    def __init__(self, bundle: Path) -> None:
        self.port = free_port()
        self.starts = 0
        self.process_id = 0
        self._stopping = False
        self._bundle = bundle
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        variables = {"FACESWAPD_PORT": str(self.port), "FACESWAPD_BUNDLE": str(self._bundle)}
        while not self._stopping:
            child = subprocess.Popen(COMMAND, cwd=ROOT, env=os.environ | variables, stdout=NULL, stderr=NULL)
            self.process_id, self.starts = child.pid, self.starts + 1
            child.wait()

    def stop(self) -> None:
        self._stopping = True
        os.kill(self.process_id, signal.SIGTERM)
        self._thread.join()


@contextmanager
def supervised(bundle: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(bundle)
    try:
        wait_for(supervisor, up=True)
        yield supervisor
    finally:
        supervisor.stop()


def wait_for(supervisor: Supervisor, up: bool) -> float:
    """Seconds until it is ready, or until it is not."""
    started = time.perf_counter()
    while is_ready(supervisor.port) is not up:
        assert time.perf_counter() - started < 120
        time.sleep(0.002)
    return time.perf_counter() - started


def wait_for_swap(statuses: list[int]) -> None:
    """Until one more was answered with a face: it is under load now."""
    already, started = statuses.count(200), time.perf_counter()
    while statuses.count(200) == already:
        assert time.perf_counter() - started < 120
        time.sleep(0.002)


def swap(port: int) -> int:
    """The status; LOST if there was no whole answer, REFUSED if nobody listened."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.connect()
    except OSError:
        time.sleep(0.01)
        return REFUSED
    try:
        connection.request("POST", "/swap?target=echo&crop=none", photo(), {"Content-Type": "image/png"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return LOST
    finally:
        connection.close()


@contextmanager
def asked(port: int, clients: int) -> Iterator[list[int]]:
    """A block in which so many clients ask all the time; the statuses that they got."""
    over = threading.Event()
    statuses: list[int] = []

    def client() -> None:
        while not over.is_set():
            statuses.append(swap(port))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_sigterm_under_load(identity_bundle: Path, tally: Tally) -> None:
    """What was accepted is answered, with a face or with 503; then nobody listens any more."""
    for _ in range(sized(1, 20)):
        variables = {"FACESWAPD_PORT": str(port := free_port()), "FACESWAPD_BUNDLE": str(identity_bundle)}
        child = subprocess.Popen(COMMAND, cwd=ROOT, env=os.environ | variables, stdout=NULL, stderr=NULL)
        while not is_ready(port):
            assert child.poll() is None
            time.sleep(0.01)
        with asked(port, 8) as statuses:
            wait_for_swap(statuses)
            time.sleep(0.5)
            child.send_signal(signal.SIGTERM)
            code = child.wait(60)
        answered = sum(status in (200, 503) for status in statuses)
        tally.note("SIGTERM under load", stops=1, answered=answered, lost=statuses.count(LOST))
        assert code == 0
        assert set(statuses) <= {200, 503, REFUSED}, "accepted, and lost"


def test_sigkill_under_load(identity_bundle: Path, tally: Tally) -> None:
    """Whoever gets an answer gets a right one: 200, or 503 while the networks are warmed."""
    with supervised(identity_bundle) as supervisor:
        with asked(supervisor.port, 4) as statuses:
            for _ in range(sized(1, 20)):
                wait_for_swap(statuses)
                killed = supervisor.process_id
                os.kill(killed, signal.SIGKILL)
                down = wait_for(supervisor, up=False)
                back = down + wait_for(supervisor, up=True)
                assert supervisor.process_id != killed
                tally.note("SIGKILL under load", kills=1, back_s_max=round(back, 2))
        assert swap(supervisor.port) == 200
    assert set(statuses) <= {LOST, REFUSED, 200, 503}
