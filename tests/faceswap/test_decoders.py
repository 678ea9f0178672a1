"""DecoderBank: loaded on first use, once, kept; failures are not kept."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from faceswap import BundleError, UnknownIdentityError
from faceswap.bundle import Bundle
from faceswap.decoders import DecoderBank
from faceswap.sessions import Session, SessionFactory
from faceswap.signatures import Signature
from tests.faceswap.fake_onnxruntime import FakeOnnxRuntime


class FakeSession:
    provider = "FakeExecutionProvider"

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return batch


class SlowFactory(SessionFactory):
    """Counts what it opens; opening waits for `gate` and can be made to fail."""

    def __init__(self, failures: Sequence[Exception] = ()) -> None:
        super().__init__("cpu", 1)
        self.opened: list[str] = []
        self.gate = threading.Event()
        self.failures = list(failures)

    def open(
        self,
        graph: bytes,
        name: str,
        signature: Signature | None = None,
        weights: tuple[str, bytes] | None = None,
    ) -> Session:
        assert weights is None
        assert graph
        assert signature is not None
        self.opened.append(name)
        assert self.gate.wait(10)
        if self.failures:
            raise self.failures.pop()
        return FakeSession()


@pytest.fixture
def opened(bundle: Path) -> Bundle:
    return Bundle.open(bundle)


def test_nothing_is_loaded_before_it_is_asked_for(opened: Bundle) -> None:
    bank = DecoderBank(opened, SessionFactory("cpu", 1))
    assert bank.loaded == []
    assert bank.get("negative") is bank.get("negative")
    assert bank.loaded == ["negative"]


def test_a_loaded_decoder_decodes(opened: Bundle) -> None:
    latents = np.zeros((1, 48, 16, 16), np.float32)
    bank = DecoderBank(opened, SessionFactory("cpu", 1))
    assert (bank.get("echo").run(latents) == 0).all()
    assert (bank.get("negative").run(latents) == 255).all()


def test_only_decoders_go_without_an_arena() -> None:
    runtime = FakeOnnxRuntime()
    factory = SessionFactory("cpu", 1, runtime)
    for each in (factory.without_arena(), factory):
        each.open(b"graph", "graph.onnx")
    assert [options.enable_cpu_mem_arena for options in runtime.options] == [False, True]


def test_threads_that_ask_at_once_load_once(opened: Bundle) -> None:
    factory = SlowFactory()
    bank = DecoderBank(opened, factory)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(bank.get, "echo") for _ in range(8)]
        assert bank.loaded == []
        factory.gate.set()
        sessions = {id(future.result(10)) for future in asked}
    assert len(sessions) == len(factory.opened) == 1


def test_one_slow_load_does_not_hold_up_another_identity(opened: Bundle) -> None:
    factory = SlowFactory()
    bank = DecoderBank(opened, factory)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(bank.get, name) for name in ("echo", "negative")]
        while len(factory.opened) < 2:
            threading.Event().wait(0.001)
        factory.gate.set()
        assert all(future.result(10) for future in asked)


def test_a_failed_load_is_tried_anew(opened: Bundle) -> None:
    factory = SlowFactory([RuntimeError("out of memory")])
    factory.gate.set()
    bank = DecoderBank(opened, factory)
    with pytest.raises(RuntimeError, match="out of memory"):
        bank.get("echo")
    assert bank.loaded == []
    assert bank.get("echo").provider == "FakeExecutionProvider"


def test_a_decoder_exchanged_since_the_start_is_never_loaded(opened: Bundle) -> None:
    echo, negative = (opened.folder / opened.identity(name).decoder.path for name in ("echo", "negative"))
    echo.write_bytes(negative.read_bytes())
    bank = DecoderBank(opened, SessionFactory("cpu", 1))
    with pytest.raises(BundleError, match="is damaged"):
        bank.get("echo")
    assert bank.get("negative")


def test_a_message_names_a_few_of_a_thousand_identities() -> None:
    error = UnknownIdentityError("nobody", [f"p{number:03d}" for number in range(1000)])
    assert str(error).endswith(", p019 and 980 more")
    assert len(error.known) == 1000
    assert str(UnknownIdentityError("nobody", ["a", "b"])).endswith("this service has: a, b")


def test_an_unknown_identity(opened: Bundle) -> None:
    with pytest.raises(UnknownIdentityError):
        DecoderBank(opened, SessionFactory("cpu", 1)).get("nobody")
