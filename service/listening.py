"""A listening socket that is about to close."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from contextlib import suppress

_SO_ATTACH_FILTER = 26
"""Of asm-generic/socket.h."""
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the TCP header's byte of flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone? else one further
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
)
"""Classic BPF as in Linux's filter.rst: code, steps if true, steps if false, operand."""


def admit_no_more(listener: socket.socket) -> None:
    """Whoever connects from now on is not heard; handshakes under way end, and connections go on.

    The kernel resets what lies in the queue of a socket that closes, so a client that connects between the
    last `accept` and the `close` loses its request. Unheard, it tries again a second later by itself, and
    is refused, or meets who listens there then. Only Linux can do it; elsewhere nothing happens. All
    processes that share the socket become deaf.
    """
    if sys.platform != "linux":
        return
    steps = b"".join(struct.pack("=HBBI", *step) for step in _DROP_SYN)
    kept = ctypes.create_string_buffer(steps)
    program = struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(kept))
    with suppress(OSError):  # a sandbox without filters
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
