"""Starting, measuring and stopping another process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.server import family, running

PROGRAM = """
import os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
    def log_message(self, *_): pass
child = subprocess.Popen([sys.executable, "-c", "import time; sum(range(3_000_000)); time.sleep(600)"])
HTTPServer((os.environ["FACESWAPD_HOST"], int(os.environ["FACESWAPD_PORT"])), Handler).serve_forever()
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_a_server_is_measured_and_ended_with_all_its_processes() -> None:
    with running([sys.executable, "-c", PROGRAM], {}, "/ready", must_end_with_0=False) as server:
        parent, child = family(server.process_id)
        assert parent == server.process_id
        memory = server.memory_mib()
        assert memory is not None
        assert memory > 5
        cpu = server.cpu_s()
        assert cpu is not None
        assert cpu > 0
        assert server.start_s > 0
    assert not _runs(parent)
    for _ in range(1000):  # a kill takes effect a moment later
        if not _runs(child):
            break
        time.sleep(0.01)
    assert not _runs(child)


def _runs(process_id: int) -> bool:
    """Zombies that nobody has waited for do not count."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_server_that_does_not_start_says_why() -> None:
    program = [sys.executable, "-c", "import sys; sys.exit('no bundle here')"]
    with pytest.raises(RuntimeError, match="no bundle here"), running(program, {}):
        pass


@linux
def test_a_family_is_a_process_with_all_below_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in family(os.getpid())
        child.communicate(b"\n")
