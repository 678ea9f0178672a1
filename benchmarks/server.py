"""A server as a user starts it: another process, on loopback; how long it takes, and what it uses."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HOST = "127.0.0.1"
START_LIMIT_S = 120.0
STOP_LIMIT_S = 30.0
SERVICE = ("-m", "service")
READY = "/health/ready"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready; `start_s` is the time from process start to ready."""

    port: int
    process_id: int
    start_s: float

    def memory_mib(self, peak: bool = False) -> float | None:
        """Resident memory now, or its `peak` so far, of all its processes; None where there is no /proc.

        What two processes share counts twice: the service itself is one.
        """
        field = "VmHWM:" if peak else "VmRSS:"
        found = [_status(process_id, field) for process_id in family(self.process_id)]
        return sum(found) / 1024 if any(found) else None

    def cpu_s(self) -> float | None:
        """Processor time so far, user and system, of all its processes that live."""
        found = [_cpu_s(process_id) for process_id in family(self.process_id)]
        return sum(found) if any(found) else None


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
    variables = {"FACESWAPD_BUNDLE": str(bundle), "FACESWAPD_DEVICE": device, **(more or {})}
    with running([sys.executable, *program], variables) as server:
        yield server


@contextmanager
def running(
    command: Sequence[str], variables: Mapping[str, str], ready: str = READY, must_end_with_0: bool = True
) -> Iterator[Server]:
    """Any server that listens on FACESWAPD_PORT and answers GET `ready` with 200 once it is ready."""
    port = free_port()
    environment = os.environ | dict(variables) | {"FACESWAPD_HOST": HOST, "FACESWAPD_PORT": str(port)}
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait_until_ready(process, port, ready, log)
            yield Server(port, process.pid, time.perf_counter() - start)
        finally:
            _stop(process)
        if must_end_with_0 and process.returncode != 0:
            raise RuntimeError(f"the service ended with status {process.returncode}:\n{_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As a supervisor does it; what outlives its parent is ended too."""
    started_by_it = family(process.pid)
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in started_by_it[1:]:
        with suppress(OSError):
            os.kill(left, signal.SIGKILL)


def family(process_id: int) -> list[int]:
    """The process and all below it; itself alone where there is no /proc."""
    found = [process_id]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(child) for child in tasks.read_text().split()]
    return found


def _status(process_id: int, field: str) -> int:
    """KiB of a line of /proc/PID/status, 0 where it cannot be read."""
    with suppress(OSError):
        for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0


def _cpu_s(process_id: int) -> float:
    with suppress(OSError):
        # "pid (name) state ...": the name may hold spaces; user and system ticks are the 14th and 15th field
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, ready: str, log: IO[bytes]) -> None:
    end = time.perf_counter() + START_LIMIT_S
    while not is_ready(port, ready):
        if process.poll() is not None or time.perf_counter() > end:
            raise RuntimeError(f"the server is not ready, exit status {process.poll()}:\n{_tail(log)}")
        time.sleep(0.01)


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read()[-2000:].decode(errors="replace")


def is_ready(port: int, ready: str = READY) -> bool:
    """Does GET `ready` answer 200?"""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", ready)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
