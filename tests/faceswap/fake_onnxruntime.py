"""The part of the onnxruntime module that the library uses, for machines and failures that are not here.

It keeps onnxruntime's habits: CUDA is listed where there is no GPU, a session that cannot have it
quietly runs on the CPU, and its error types share no parent but Exception.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
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


class RuntimeException(Exception):  # noqa: N818 - onnxruntime's own name
    """onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException"""


Array = npt.NDArray[Any]
Answer = Array | Exception | Callable[[Array], Array]
"""What a session gives: always the same, an error, or what it makes of its batch."""

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
class FakeRunOptions:
    entries: dict[str, str] = field(default_factory=dict)

    def add_run_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


@dataclass(eq=False)
class FakeOrtValue:
    """Memory of a device; the host sees it by copies."""

    memory: Array
    device: str

    @staticmethod
    def ortvalue_from_shape_and_type(shape: list[int], kind: type, device: str, number: int) -> FakeOrtValue:
        assert number == 0
        return FakeOrtValue(np.full(shape, 7, kind), device)  # whatever was there before

    def update_inplace(self, array: Array) -> None:
        assert array.shape == self.memory.shape
        assert array.dtype == self.memory.dtype
        self.memory[...] = array

    def numpy(self) -> Array:
        return self.memory.copy()

    def data_ptr(self) -> int:
        return int(self.memory.ctypes.data)


@dataclass
class FakeBinding:
    """A run's answer is there after `synchronize_outputs` only."""

    taken: FakeOrtValue | None = None
    given: FakeOrtValue | None = None
    on_its_way: list[tuple[FakeOrtValue, Array]] = field(default_factory=list)

    def synchronize_outputs(self) -> None:
        for value, answer in self.on_its_way:
            value.memory[...] = answer
        self.on_its_way.clear()

    def bind_ortvalue_input(self, _name: str, value: FakeOrtValue) -> None:
        self.taken = value

    def bind_ortvalue_output(self, _name: str, value: FakeOrtValue) -> None:
        self.given = value


@dataclass
class FakeCudaLibrary:
    """libcudart: memory in use, pinned memory, copies. `broken` is the number that every call answers."""

    used: int = 1_000_000
    broken: int = 0
    allocated: int = 0
    freed: int = 0
    buffers: dict[int, Any] = field(default_factory=dict)

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:  # noqa: N802 - CUDA's own name
        free._obj.value, total._obj.value = 80_000_000 - self.used, 80_000_000
        return self.broken

    def cudaHostAlloc(self, place: Any, size: Any, flags: int) -> int:  # noqa: N802
        assert flags == 1
        if not self.broken:
            buffer = ctypes.create_string_buffer(size.value)
            place._obj.value = ctypes.addressof(buffer)
            self.buffers[ctypes.addressof(buffer)] = buffer
            self.allocated += 1
        return self.broken

    def cudaFreeHost(self, place: Any) -> int:  # noqa: N802
        del self.buffers[place.value]
        self.freed += 1
        return 0

    def cudaMemcpy(self, to: Any, origin: Any, size: Any, kind: int) -> int:  # noqa: N802
        assert kind == 2
        if not self.broken:
            ctypes.memmove(to, origin, size.value)
        return self.broken


@dataclass
class FakeOrtSession:
    provider: str
    inputs: list[Value]
    outputs: list[Value]
    answer: Answer
    fallback: bool = True
    graphs: bool = False
    replays_wrongly: bool = False
    sizes: list[int] = field(default_factory=list)
    """Of the batches that really ran."""
    recordings: dict[tuple[int, str], FakeBinding] = field(default_factory=dict)
    """By thread and id, as onnxruntime keeps them; a replay knows no other addresses."""
    replays: int = 0

    def get_providers(self) -> list[str]:
        return [self.provider] if self.provider == CPU else [self.provider, CPU]

    def get_inputs(self) -> list[Value]:
        return self.inputs

    def get_outputs(self) -> list[Value]:
        return self.outputs

    def disable_fallback(self) -> None:
        self.fallback = False

    def run(
        self, names: list[str] | None, feeds: dict[str, Array], options: FakeRunOptions | None = None
    ) -> list[Array]:
        assert names is None or names == [self.outputs[0].name]
        assert list(feeds) == [self.inputs[0].name]
        if self.graphs:
            assert options is not None, "a run without an id would be recorded"
            assert options.entries == {"gpu_graph_id": "-1"}
        (batch,) = feeds.values()
        return [self._computed(batch)]

    def io_binding(self) -> FakeBinding:
        return FakeBinding()

    def run_with_iobinding(self, binding: FakeBinding, options: FakeRunOptions | None) -> None:
        if self.graphs:
            assert options is not None
            key = threading.get_ident(), options.entries["gpu_graph_id"]
            self.replays += key in self.recordings
            recorded = self.recordings.setdefault(key, binding)
        else:
            recorded = binding
        assert recorded.taken is not None
        assert recorded.given is not None
        answer = self._computed(recorded.taken.memory)
        binding.on_its_way.append((recorded.given, answer + 9 * self.replays_wrongly))

    def _computed(self, batch: Array) -> Array:
        if isinstance(self.answer, Exception):
            raise self.answer
        self.sizes.append(len(batch))
        return self.answer(batch) if callable(self.answer) else self.answer


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
    cpu_answer: Answer = field(default_factory=lambda: np.zeros((2, 2, 4, 4), np.float32))
    cuda_answer: Answer = field(default_factory=lambda: np.zeros((2, 2, 4, 4), np.float32))
    preloads: int = 0
    options: list[FakeOptions] = field(default_factory=list)
    sessions: list[FakeOrtSession] = field(default_factory=list)

    providers: list[Any] = field(default_factory=list)
    replays_wrongly: bool = False
    refusal: Exception | None = None
    """What the next sessions on CUDA end with."""
    refuses_on_cpu: bool = False
    """Those on the CPU too: the graph is at fault."""

    SessionOptions = FakeOptions
    RunOptions = FakeRunOptions
    OrtValue = FakeOrtValue

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
        self.providers.append(providers[0])
        if (wants_cuda or self.refuses_on_cpu) and self.refusal is not None:
            raise self.refusal
        on_cuda = wants_cuda and self.gpu
        strict = options.entries.get("session.disable_cpu_ep_fallback") == "1"
        if strict and (self.cpu_nodes or not on_cuda):
            raise Fail("This session contains graph nodes that are assigned to the default CPU EP")
        answer = self.cuda_answer if on_cuda else self.cpu_answer
        session = FakeOrtSession(CUDA if on_cuda else CPU, self.inputs, self.outputs, answer)
        session.graphs = on_cuda and "enable_cuda_graph" in providers[0][1]
        session.replays_wrongly = self.replays_wrongly
        self.sessions.append(session)
        return session
