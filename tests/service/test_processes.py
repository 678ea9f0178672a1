"""Several services behind one port: they share it, are replaced when they fail, and stop together."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from service.processes import Family, Member

ROOT = Path(__file__).parents[2]
READY = "os.write(int(sys.argv[1]), b'!');"


def member(code: str) -> Member:
    """A process that runs `code` and may say that it is ready."""
    said, say = os.pipe()
    os.set_blocking(said, False)
    prepared = f"import os, sys, time; {code}"
    process = subprocess.Popen([sys.executable, "-c", prepared, str(say)], pass_fds=[say])
    os.close(say)
    return Member(process, said)


def family(count: int, codes: list[str]) -> tuple[Family, list[Member]]:
    """Members run the `codes` one after another; all that were started."""
    started: list[Member] = []

    def start() -> Member:
        started.append(member(codes[len(started)]))
        return started[-1]

    return Family(count, start, pause_s=0), started


class TestFamily:
    """With processes that are no services."""

    def test_one_that_cannot_start_ends_them_all_with_its_code(self) -> None:
        them, started = family(2, ["sys.exit(2)", f"{READY} time.sleep(60)"])
        assert them.run() == 2
        assert started[0].process.returncode == 2

    def test_one_that_was_ready_and_failed_is_replaced(self) -> None:
        them, started = family(1, [f"{READY} sys.exit(3)", f"{READY} sys.exit(-1)", "sys.exit(5)"])
        assert them.run() == 5, "the last one never became ready"
        assert len(started) == 3

    def test_a_signal_ends_them_with_0(self) -> None:
        them, started = family(2, ["time.sleep(60)"] * 2)
        them.on_signal(signal.SIGTERM)
        assert them.run() == 0
        assert len(started) == 2


@contextmanager
def service(bundle: Path, **more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Two processes, ready, and their port."""
    variables = {"FACESWAPD_BUNDLE": str(bundle), "FACESWAPD_PORT": "0", "FACESWAPD_PROCESSES": "2", **more}
    command = [sys.executable, "-m", "service", "--device", "cpu"]
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        ports = [announced(child.stdout.readline) for _ in range(2)]
        assert len(set(ports)) == 1
        yield child, ports[0]
    finally:
        child.kill()
        child.communicate()


def announced(line: Callable[[], str]) -> int:
    """The port of the next announcement."""
    while text := line():
        if found := re.search(r"ready: http://localhost:(\d+)", text):
            return int(found[1])
    raise AssertionError("it ended without a word")


def members_of(process_id: int) -> list[int]:
    text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(word) for word in text.split()]


def ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def told_limits(port: int) -> list[int]:
    """What /metrics says of the limit of photos, when nothing changes for as long as a gauge may be old."""
    deadline = time.monotonic() + 20
    found = [0]
    while time.monotonic() < deadline:
        found = sorted({_told_limit(port) for _ in range(6)})
        if found == [2 * 256]:
            break
        time.sleep(0.2)
    return found


def _told_limit(port: int) -> int:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        line = next(
            line for line in answer.read().decode().splitlines() if line.startswith("swap_photos_limit")
        )
    return int(float(line.split()[-1]))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_two_services_share_a_port_one_that_is_killed_is_replaced_and_they_stop_with_0(
    identity_bundle: Path,
) -> None:
    with service(identity_bundle) as (child, port):
        first = members_of(child.pid)
        assert len(first) == 2
        assert all(ready(port) for _ in range(6))
        assert told_limits(port) == [2 * 256], "numbers of both, whoever is asked"
        os.kill(first[0], signal.SIGKILL)
        assert ready(port), "the other one goes on"
        assert child.stdout is not None
        assert announced(child.stdout.readline) == port
        second = members_of(child.pid)
        assert len(second) == 2
        assert told_limits(port) == [2 * 256], "the numbers of the killed one count no more"
        assert first[1] in second
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
        assert not any(Path(f"/proc/{number}").exists() for number in second)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_members_do_not_outlive_who_started_them(identity_bundle: Path) -> None:
    with service(identity_bundle) as (child, _):
        them = members_of(child.pid)
        child.kill()
        child.wait(20)
        for _ in range(1000):
            if not any(Path(f"/proc/{number}").exists() for number in them):
                return
            time.sleep(0.02)
        raise AssertionError("they go on")


def test_a_bundle_that_is_not_there_is_told_and_ends_with_2(tmp_path: Path) -> None:
    variables = {
        "FACESWAPD_BUNDLE": str(tmp_path / "none"),
        "FACESWAPD_PORT": "0",
        "FACESWAPD_PROCESSES": "2",
    }
    command = [sys.executable, "-m", "service"]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "faceswapd: there is no bundle folder" in ended.stderr
