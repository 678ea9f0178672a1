"""Several processes behind one port, for a card that one Python process cannot keep busy.

Each has its own Python, its own networks and its own queue; the kernel hands connections out. One that has
been ready and ends with an error is replaced; one that cannot start ends them all, as it would end alone.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from service import logs
from service.settings import Settings

STOPS = (signal.SIGTERM, signal.SIGINT)
TICK_S = 0.1
PAUSE_S = 1.0
"""Before a process is replaced: one that fails at once must not fill the log."""
_PARENT_DEATH = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

log = logging.getLogger("faceswapd.processes")


@dataclass(slots=True, eq=False)
class Member:
    """A process, and the pipe by which it says that it is ready."""

    process: subprocess.Popen[bytes]
    said: int

    def was_ready(self) -> bool:
        try:
            return bool(os.read(self.said, 1))
        except BlockingIOError:
            return False


class Family:
    """Starts `count` members by `start` and keeps that many, until it is told to stop."""

    def __init__(self, count: int, start: Callable[[], Member], pause_s: float = PAUSE_S) -> None:
        self._start = start
        self._pause_s = pause_s
        self._members = [start() for _ in range(count)]
        self._signals: deque[int] = deque()
        self._stopping = False
        self._code = 0

    def on_signal(self, number: int, _frame: FrameType | None = None) -> None:
        """A handler: whatever is being done is not the time to act."""
        self._signals.append(number)

    def run(self) -> int:
        """Until all have ended; the exit code."""
        while self._members:
            while self._signals:
                if self._signals.popleft() in STOPS:
                    self._stop()
                else:
                    self._tell(signal.SIGHUP)
            self._bury()
            time.sleep(TICK_S)
        return self._code

    def _stop(self) -> None:
        """SIGTERM in either case: a terminal sends its Ctrl-C to all processes, and two of them mean now."""
        self._stopping = True
        self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for member in self._members:
            member.process.send_signal(number)

    def _bury(self) -> None:
        for member in list(self._members):
            code = member.process.poll()
            if code is None:
                continue
            was_ready = member.was_ready()
            os.close(member.said)
            self._members.remove(member)
            if self._stopping:  # by the signal itself: it had no handler yet
                self._code = self._code or (code if code != -signal.SIGTERM else 0)
            elif was_ready:
                log.error("process %d has ended with %d, another one is started", member.process.pid, code)
                time.sleep(self._pause_s)
                self._members.append(self._start())
            else:
                self._code = code or 1
                self._stop()


def serve_together(count: int, listener: socket.socket, arguments: Sequence[str]) -> int:
    """`count` services on `listener`, each with the options `arguments` of `python -m service`."""
    listener.listen()

    def start() -> Member:
        said, say = os.pipe()
        os.set_blocking(said, False)
        inherited = [listener.fileno(), say]
        command = [sys.executable, "-m", "service.processes", *map(str, inherited), "--", *arguments]
        try:
            return Member(subprocess.Popen(command, pass_fds=inherited), said)
        finally:
            os.close(say)

    family = Family(count, start)
    for number in (*STOPS, signal.SIGHUP):
        signal.signal(number, family.on_signal)
    return family.run()


def main(arguments: Sequence[str]) -> int:
    """One of them."""
    from service.__main__ import guarded, open_and_serve, prepare_metrics  # which imports this module

    _end_with_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("listener", type=int)
    parser.add_argument("say", type=int)
    parser.add_argument("options", nargs="*")
    given = parser.parse_args(arguments)

    def announce() -> None:
        os.write(given.say, b"!")

    def run(settings: Settings) -> int:
        logs.configure(settings.log_level, settings.log_format)
        prepare_metrics()  # one that was killed before may have left its gauges
        return open_and_serve(settings, listener, announce)

    with socket.socket(fileno=given.listener) as listener:
        return guarded(given.options, run)


def _end_with_parent() -> None:
    """Also where that is killed: nobody would stop this one any more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
