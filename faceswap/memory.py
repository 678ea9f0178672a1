"""Memory of this process by the books of Linux and glibc, and freed memory given back to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

_M_ARENA_MAX = -8
"""Of malloc.h."""


class _MallInfo(ctypes.Structure):
    """glibc's struct mallinfo2, bytes over all of malloc's arenas; see mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def heap_bytes() -> int | None:
    """What malloc has handed out and not got back; None where the C library has no such count.

    Unlike resident memory it tells at once what a step took, whatever lay free before it. Other
    threads count too.
    """
    mallinfo = getattr(_glibc(), "mallinfo2", None)
    if mallinfo is None:
        return None
    mallinfo.restype = _MallInfo
    info = mallinfo()
    return int(info.uordblks + info.hblkhd)


def resident_bytes() -> int | None:
    """Memory of the process that is in RAM; None where there is no /proc."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def limit_heaps(count: int) -> None:
    """At most so many of malloc's arenas from now on, unless MALLOC_ARENA_MAX in the environment says it.

    glibc gives each thread its own, eight for each core, and each keeps what its thread has freed: on two
    cores a service whose threads handle large pictures took 40 % more memory so, for no more swaps a second.
    """
    mallopt = getattr(_glibc(), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(ctypes.c_int(_M_ARENA_MAX), ctypes.c_int(count))


def trim() -> None:
    """Gives what malloc keeps for later back to the system, where glibc is there; takes milliseconds.

    Without it, resident memory stays near its highest after large sessions have been freed.
    """
    give_back = getattr(_glibc(), "malloc_trim", None)
    if give_back is not None:
        give_back(ctypes.c_size_t(0))


def _glibc() -> Any:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
