"""The part of the onnxruntime module that the library uses, for machines and failures that are not here.

It keeps onnxruntime's habits: CUDA is listed where there is no GPU, a session that cannot have it
quietly runs on the CPU, and its error types share no parent but Exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Fail(Exception):  # noqa: N818 - onnxruntime's own name
    """onnxruntime.capi.onnxruntime_pybind11_state.Fail"""


@dataclass
class Value:
    """An input or output as onnxruntime describes it: open sides are names."""

    name: str
    type: str
    shape: list[int | str]


TAKES = Value("faces", "tensor(uint8)", ["N", 64, 64, 3])
GIVES = Value("latents", "tensor(float)", ["N", 2, 4, 4])


@dataclass
class FakeOptions:
    intra_op_num_threads: int = 0
    inter_op_num_threads: int = 0
    enable_cpu_mem_arena: bool = True
    entries: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def add_external_initializers_from_files_in_memory(
        self, names: list[str], buffers: list[bytes], lengths: list[int]
    ) -> None:
        assert [len(data) for data in buffers] == lengths
        self.files |= dict(zip(names, buffers, strict=True))

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


@dataclass
class FakeOrtSession:
    provider: str
    inputs: list[Value]
    outputs: list[Value]
    answer: npt.NDArray[Any] | Exception
    fallback: bool = True

    def get_providers(self) -> list[str]:
        return [self.provider] if self.provider == CPU else [self.provider, CPU]

    def get_inputs(self) -> list[Value]:
        return self.inputs

    def get_outputs(self) -> list[Value]:
        return self.outputs

    def disable_fallback(self) -> None:
        self.fallback = False

    def run(self, names: list[str] | None, feeds: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        assert names is None or names == [self.outputs[0].name]
        assert list(feeds) == [self.inputs[0].name]
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer]


@dataclass
class FakeOnnxRuntime:
    """`wheel`: the provider list of the wheel. `gpu`: whether a GPU is really there.

    `cpu_nodes`: the graph has shape arithmetic, which onnxruntime keeps on the CPU.
    """

    wheel: tuple[str, ...] = (CPU,)
    gpu: bool = False
    cpu_nodes: bool = False
    broken: bool = False
    inputs: list[Value] = field(default_factory=lambda: [TAKES])
    outputs: list[Value] = field(default_factory=lambda: [GIVES])
    cpu_answer: npt.NDArray[Any] | Exception = field(
        default_factory=lambda: np.zeros((2, 2, 4, 4), np.float32)
    )
    cuda_answer: npt.NDArray[Any] | Exception = field(
        default_factory=lambda: np.zeros((2, 2, 4, 4), np.float32)
    )
    preloads: int = 0
    options: list[FakeOptions] = field(default_factory=list)
    sessions: list[FakeOrtSession] = field(default_factory=list)

    SessionOptions = FakeOptions

    def get_available_providers(self) -> list[str]:
        return list(self.wheel)

    def preload_dlls(self) -> None:
        self.preloads += 1

    def InferenceSession(  # noqa: N802 - onnxruntime's own name
        self, graph: bytes, options: FakeOptions, providers: list[Any], enable_fallback: int
    ) -> FakeOrtSession:
        assert isinstance(graph, bytes)
        assert enable_fallback == 0
        self.options.append(options)
        if self.broken:
            raise Fail("ModelProto does not have a graph.\nand a stack of many lines")
        wants_cuda = any(provider != CPU for provider in providers)
        on_cuda = wants_cuda and self.gpu
        strict = options.entries.get("session.disable_cpu_ep_fallback") == "1"
        if strict and (self.cpu_nodes or not on_cuda):
            raise Fail("This session contains graph nodes that are assigned to the default CPU EP")
        answer = self.cuda_answer if on_cuda else self.cpu_answer
        session = FakeOrtSession(CUDA if on_cuda else CPU, self.inputs, self.outputs, answer)
        self.sessions.append(session)
        return session
