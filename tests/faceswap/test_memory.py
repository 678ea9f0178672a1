"""Memory counts: a block that is taken and given back shows."""

from __future__ import annotations

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
    block = np.ones(BLOCK, np.uint8)
    assert (memory.resident_bytes() or 0) - before > 0.9 * BLOCK
    assert block[0]


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


def test_a_real_decoder_is_measured(identity_bundle: Path) -> None:
    bundle = Bundle.open(identity_bundle)
    cache = SessionCache()
    bank = DecoderBank(bundle, SessionFactory("cpu", 1), cache=cache)
    bank.get("echo")
    assert cache.bytes >= bundle.identity("echo").decoder.bytes
