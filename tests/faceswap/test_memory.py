"""Memory counts: a block that is taken and given back shows."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faceswap import memory
from faceswap.bundle import Bundle
from faceswap.decoders import DecoderBank
from faceswap.session_cache import SessionCache
from faceswap.sessions import SessionFactory

BLOCK = 64 * 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the counts are Linux's and glibc's")


def test_resident_memory_follows_a_block() -> None:
    before = memory.resident_bytes() or 0
    with mmap.mmap(-1, BLOCK) as block:  # malloc may have 64 MiB that lie free, resident already
        for page in range(0, BLOCK, mmap.PAGESIZE):
            block[page] = 1
        assert (memory.resident_bytes() or 0) - before > 0.9 * BLOCK


def test_the_heap_follows_a_block_and_forgets_it() -> None:
    before = memory.heap_bytes()
    if before is None:
        pytest.skip("this C library has no mallinfo2")
    block = np.empty(BLOCK, np.uint8)  # counted though no page of it is in memory yet
    assert (memory.heap_bytes() or 0) - before > 0.9 * BLOCK
    del block
    assert abs((memory.heap_bytes() or 0) - before) < 0.1 * BLOCK


def test_trimming_is_harmless() -> None:
    memory.trim()


HEAPS = """
import ctypes, pathlib, sys, threading
from faceswap import memory
if sys.argv[1] != "0":
    memory.limit_heaps(int(sys.argv[1]))
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(8)
def take():
    together.wait()
    libc.malloc(ctypes.c_size_t(50_000))
    together.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(pathlib.Path(sys.argv[2]).read_text().count("<heap nr="))
"""


def heaps(limit: int, folder: Path, **variables: str) -> int:
    """malloc's arenas in a process with that limit, 0 for none, and eight threads."""
    command = [sys.executable, "-c", HEAPS, str(limit), str(folder / "heaps.xml")]
    answer = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    return int(answer.stdout)


def test_threads_share_heaps(tmp_path: Path) -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_info"):
        pytest.skip("this C library has no malloc_info")
    assert heaps(0, tmp_path) > 2
    assert heaps(1, tmp_path) == 1
    assert heaps(1, tmp_path, MALLOC_ARENA_MAX="64") > 2


def test_a_real_decoder_is_measured(identity_bundle: Path) -> None:
    bundle = Bundle.open(identity_bundle)
    cache = SessionCache()
    bank = DecoderBank(bundle, SessionFactory("cpu", 1), cache=cache)
    bank.get("echo")
    assert cache.bytes >= bundle.identity("echo").decoder.bytes
