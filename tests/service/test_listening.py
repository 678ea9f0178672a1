"""A socket about to close hears nobody new, and keeps all that it has."""

from __future__ import annotations

import socket
import sys
import threading

import pytest

from service.listening import admit_no_more

HOST = "127.0.0.1"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can filter")


def test_who_has_connected_stays_and_who_comes_is_not_heard() -> None:
    with socket.create_server((HOST, 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5) as early:
            admit_no_more(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.2)
            served, _ = listener.accept()
            with served:
                early.sendall(b"question")
                assert served.recv(100) == b"question"
                served.sendall(b"answer")
                assert early.recv(100) == b"answer"


def test_who_comes_meanwhile_is_refused_and_not_cut_off() -> None:
    with socket.create_server((HOST, 0)) as listener:
        admit_no_more(listener)
        closing = threading.Timer(0.1, listener.close)
        closing.start()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname(), timeout=30)
        closing.join()


def test_a_sandbox_without_filters_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as listener:
        monkeypatch.setattr("service.listening._SO_ATTACH_FILTER", -1)
        admit_no_more(listener)
        socket.create_connection(listener.getsockname(), timeout=5).close()
