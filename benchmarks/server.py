"""The service as a user starts it: another process, on loopback, with its start-up time and memory."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HOST = "127.0.0.1"
START_LIMIT_S = 120.0
STOP_LIMIT_S = 30.0
SERVICE = ("-m", "service")


@dataclass(frozen=True, slots=True)
class Server:
    """A service that is ready; `start_s` is the time from process start to ready."""

    port: int
    process_id: int
    start_s: float

    def memory_mib(self, peak: bool = False) -> float | None:
        """Resident memory now, or its `peak` so far; None where there is no /proc."""
        try:
            status = Path(f"/proc/{self.process_id}/status").read_text()
        except OSError:
            return None
        found = re.search(rf"^{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) / 1024 if found else None


@contextmanager
def serving(
    bundle: Path,
    device: str,
    program: Sequence[str] = SERVICE,
    more: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Starts `python PROGRAM`, waits until it is ready and stops it afterwards.

    `more` are further variables of its environment. RuntimeError with the end of its log if it does
    not become ready or does not stop cleanly.
    """
    port = free_port()
    settings = {"HOST": HOST, "PORT": str(port), "BUNDLE": str(bundle), "DEVICE": device}
    environment = (
        os.environ | {f"FACESWAPD_{name}": value for name, value in settings.items()} | dict(more or {})
    )
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *program], env=environment, stdout=log, stderr=log)
        try:
            _wait_until_ready(process, port, log)
            yield Server(port, process.pid, time.perf_counter() - start)
        finally:
            _stop(process)
        if process.returncode != 0:
            raise RuntimeError(f"the service ended with status {process.returncode}:\n{_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    end = time.perf_counter() + START_LIMIT_S
    while not is_ready(port):
        if process.poll() is not None or time.perf_counter() > end:
            raise RuntimeError(f"the service is not ready, exit status {process.poll()}:\n{_tail(log)}")
        time.sleep(0.01)


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read()[-2000:].decode(errors="replace")


def is_ready(port: int) -> bool:
    """Does GET /health/ready answer 200?"""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
