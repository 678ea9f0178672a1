"""A card that is not there and yet computes: the fake onnxruntime with real graphs behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from faceswap.bundle import Bundle
from tests.faceswap.fake_onnxruntime import CPU, CUDA, FakeOnnxRuntime, FakeOrtSession, Value


class ComputingOnCuda(FakeOnnxRuntime):
    """Knows the fp32 graphs of the bundle in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__((CUDA, CPU), gpu=True)
        bundle = Bundle.open(folder)
        files = [bundle.manifest.encoder.graph, *(entry.decoder for entry in bundle.manifest.identities)]
        self.real: dict[bytes, Any] = {
            graph: onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
            for graph in map(bundle.read, files)
        }

    @property
    def sizes(self) -> list[list[int]]:
        """Of the batches that each session has run."""
        return [session.sizes for session in self.sessions]

    def InferenceSession(  # noqa: N802 - onnxruntime's own name
        self, graph: bytes, options: Any, providers: list[Any], enable_fallback: int
    ) -> FakeOrtSession:
        session = super().InferenceSession(graph, options, providers, enable_fallback)
        real = self.real[graph]
        session.inputs = [Value(v.name, v.type, v.shape) for v in real.get_inputs()]
        session.outputs = [Value(v.name, v.type, v.shape) for v in real.get_outputs()]
        session.answer = lambda batch: real.run(None, {session.inputs[0].name: batch})[0]
        return session
