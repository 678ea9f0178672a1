"""The one door to onnxruntime: device, providers, threads, and no silent change between them."""

from __future__ import annotations

import copy
import logging
import math
import os
import platform
import sys
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

# From 1.29 on, onnxruntime reports sessions to its makers unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from faceswap import memory
from faceswap.cuda import CudaOptions, Cudart, Fault, Lane, LockLane, ThreadLane
from faceswap.cuda_session import NOT_RECORDED, CudaSession, Plain
from faceswap.errors import BundleError, DeviceError, DeviceLostError
from faceswap.lone_runs import LoneRuns, LoneSession
from faceswap.signatures import Signature, check_signature, first_line

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
SESSION_ENTRIES = {
    # Spinning threads eat the very cores that other requests decode and detect on.
    "session.intra_op.allow_spinning": "0",
    # A graph given as bytes may still name external data, read from the working directory: unchecked
    # weights. No file lies below the null device.
    "session.model_external_initializers_file_folder_path": os.devnull,
    # It rounds the weights of layers that were left in float between 8-bit ones, with one step for all.
    "optimization.disable_specified_optimizers": "WeightBiasQuantization",
}

EXACT_BYTES = {"session.x64quantprecision": "1"}
"""Sums of 8-bit products that cannot overflow; 2.5 times slower on a CPU that needs no such care."""

BREAKING = {"RuntimeException", "EPFail"}
"""onnxruntime's errors for CUDA that fails or has no memory left; graphs at fault mostly have others."""

_log = logging.getLogger(__name__)


class Device(StrEnum):
    """`auto` takes CUDA where it really runs and the CPU elsewhere; `cuda` fails without CUDA."""

    AUTO = "auto"
    CUDA = "cuda"
    CPU = "cpu"


class Session(Protocol):
    """A loaded graph; `run` is safe from any thread."""

    @property
    def provider(self) -> str:
        """Where it really runs, in onnxruntime's words: CPUExecutionProvider."""
        ...

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The graph's one output for its one input, both (N, ...)."""
        ...


class OrtSession:
    """An onnxruntime session with one input and one output."""

    def __init__(self, session: Any) -> None:
        self.provider: str = session.get_providers()[0]
        self._session = session
        self._input: str = session.get_inputs()[0].name
        self._output: str = session.get_outputs()[0].name

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        answer: npt.NDArray[Any] = self._session.run([self._output], {self._input: batch})[0]
        return answer


class _Source(NamedTuple):
    """A graph's bytes, and name and bytes of the one file that its external data may lie in."""

    data: bytes
    weights: tuple[str, bytes] | None


class SessionFactory:
    """Opens graphs on one device, which the first graph settles for all."""

    def __init__(
        self,
        device: Device | str = Device.AUTO,
        threads: int | None = None,
        runtime: Any = onnxruntime,
        cuda: CudaOptions | None = None,
        find_cudart: Callable[[], Cudart | None] = Cudart.find,
        lone_threads: int | None = None,
    ) -> None:
        """`threads` is per run, default every core there is; `runtime` is the onnxruntime module.

        `lone_threads`, where they are more, are those of a run on the CPU that no other overlaps: for
        that each graph has a second session. `find_cudart` is called once CUDA is to be used.
        """
        self.device = Device(device)
        self.threads = threads or available_cores()
        self.lone_threads = lone_threads or self.threads
        self._lone_runs = LoneRuns()
        self.cuda = cuda or CudaOptions()
        self.fault = Fault()
        self._runtime = runtime
        self._find_cudart = find_cudart
        self._cudart: Cudart | None = None
        self._lane: Lane | None = ThreadLane() if self.cuda.graphs else None
        self._lock = threading.Lock()
        self._provider = CPU if self._is_settled() else None
        self._arena = True

    def without_arena(self) -> SessionFactory:
        """The same device and threads for graphs that come and go, without onnxruntime's own arena.

        An arena takes a third more memory for each decoder, and gains speed only with the encoder's
        large batches; a second session for lone runs would take as much again.
        """
        other = copy.copy(self)
        other._arena = False
        other.lone_threads = other.threads
        return other

    def _is_settled(self) -> bool:
        """Known before any graph is opened: the CPU was asked for, or is all that the wheel has."""
        if self.device is Device.AUTO and not self._has_cuda:
            _log.info("device=auto runs on the CPU: this onnxruntime wheel has no CUDA")
            return True
        return self.device is Device.CPU

    @property
    def provider(self) -> str | None:
        """Where the graphs run; None until the first one has been opened, if that is to decide."""
        return self._provider

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """To be run once before the first request: the first run of each size is slow."""
        return self.cuda.buckets if self._provider == CUDA else (1,)

    @property
    def largest_ratio(self) -> float:
        """Of a session's memory to its file, that is believed.

        On CUDA its arena holds what the largest batch needs between layers: far more than the weights.
        """
        return 64.0 if self._provider == CUDA else 4.0

    def memory_bytes(self) -> int | None:
        """In use where the graphs run: on the device, or of this process's heap; None if it is not known."""
        on_device = self._provider == CUDA and self._cudart is not None
        return self._cudart.used_bytes() if on_device and self._cudart else memory.heap_bytes()

    def open(
        self,
        graph: bytes,
        name: str,
        signature: Signature | None = None,
        weights: tuple[str, bytes] | None = None,
    ) -> Session:
        """The session of `graph`, an ONNX file's bytes.

        External data is refused, except from `weights`: name and checked bytes of a file, which are not
        needed any more afterwards. `name` is for messages. DeviceError if the device cannot run it,
        BundleError if onnxruntime cannot load it or it does not do what `signature` says.
        """
        source = _Source(graph, weights)
        with self._lock:  # creation is rare and the first one decides for all
            if self._provider is None:
                return self._settle(source, name, signature)
        create = self._on_cuda if self._provider == CUDA else self._on_cpu
        return create(source, name, signature)

    def _settle(self, graph: _Source, name: str, signature: Signature | None) -> Session:
        try:
            session = self._on_cuda(graph, name, signature)
        except DeviceError as error:
            if self.device is Device.CUDA:
                raise
            session = self._on_cpu(graph, name, signature)
            level = logging.WARNING if self._has_cuda else logging.INFO
            _log.log(level, "device=auto runs on the CPU: %s", error)
        else:
            _log.info("device=%s runs on CUDA", self.device)
        self._provider = session.provider
        return session

    @property
    def _has_cuda(self) -> bool:
        """Of the wheel, not of the machine."""
        return CUDA in self._runtime.get_available_providers()

    def _on_cpu(self, graph: _Source, name: str, signature: Signature | None) -> Session:
        session = self._proved_on_cpu(graph, name, signature, self.threads)
        if self.lone_threads <= self.threads:
            return session
        wide = self._proved_on_cpu(graph, name, signature, self.lone_threads)
        return LoneSession(session.provider, session.run, wide.run, self._lone_runs)

    def _proved_on_cpu(
        self, graph: _Source, name: str, signature: Signature | None, threads: int
    ) -> OrtSession:
        try:
            raw = self._create(graph, [CPU], {}, threads)
            check_signature(raw, name, signature)
        except BundleError:
            raise
        except Exception as error:  # onnxruntime's dozen error types share no other parent
            raise BundleError(f"{name} is no graph that onnxruntime can run: {first_line(error)}") from error
        return OrtSession(raw)

    def _on_cuda(self, graph: _Source, name: str, signature: Signature | None) -> Session:
        if not self._has_cuda:
            raise DeviceError("this onnxruntime wheel has no CUDA (onnxruntime-gpu has)")
        self.fault.check()
        if self._provider is None:
            self._runtime.preload_dlls()
            self._cudart = self._find_cudart()
        lane = self._lane or LockLane()
        try:
            # In the lane, because nothing may allocate while a CUDA graph is recorded.
            raw = lane.run(lambda: self._proved_on_cuda(graph, name, signature))
        except (BundleError, DeviceError):
            raise
        except Exception as error:
            if self._provider == CUDA and self._is_breaking(error, graph):
                self.fault.note(f"{name}: {first_line(error)}")
                raise DeviceLostError(first_line(error)) from error
            raise DeviceError(f"{name} does not run on CUDA: {first_line(error)}") from error
        return CudaSession(raw, self._runtime, self.cuda, lane, self.fault, self._cudart)

    def _is_breaking(self, error: Exception, graph: _Source) -> bool:
        """Is it the device, or the graph, which a reload brought? Only one without fault opens on a CPU."""
        if self._cudart is not None and self._cudart.used_bytes() is None:
            return True  # after an error of its own CUDA answers no call any more
        return type(error).__name__ in BREAKING and self._opens_on_cpu(graph)

    def _opens_on_cpu(self, graph: _Source) -> bool:
        try:
            self._create(graph, [CPU], {})
        except Exception:
            return False
        return True

    def _proved_on_cuda(self, graph: _Source, name: str, signature: Signature | None) -> Any:
        raw = self._create_on_cuda(graph, name)
        plain = raw
        if self.cuda.graphs:
            options = self._runtime.RunOptions()
            options.add_run_config_entry("gpu_graph_id", NOT_RECORDED)
            plain = Plain(raw, options)
        check_signature(plain, name, signature)  # a driver too old for the card is found by a run only
        return raw

    def _create_on_cuda(self, graph: _Source, name: str) -> Any:
        """Wholly on CUDA if that can be; shape arithmetic may stay on the CPU, which is logged."""
        providers = [(CUDA, self.cuda.provider())]
        try:
            raw = self._create(graph, providers, {"session.disable_cpu_ep_fallback": "1"})
            _refuse_cpu(raw, name)
        except DeviceError:
            raise
        except Exception as strict:
            raw = self._create(graph, providers, {})
            _refuse_cpu(raw, name)
            _log.warning("parts of %s run on the CPU beside CUDA: %s", name, first_line(strict))
        return raw

    def _create(
        self, graph: _Source, providers: list[Any], entries: dict[str, str], threads: int | None = None
    ) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = threads or self.threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = self._arena
        exact = EXACT_BYTES if adds_bytes_in_16_bits() else {}
        for key, value in {**SESSION_ENTRIES, **exact, **entries}.items():
            options.add_session_config_entry(key, value)
        if graph.weights is not None:
            file, data = graph.weights
            options.add_external_initializers_from_files_in_memory([file], [data], [len(data)])
        session = self._runtime.InferenceSession(graph.data, options, providers=providers, enable_fallback=0)
        session.disable_fallback()
        # It keeps the file beside its own copy of the weights, for a fallback that is never taken.
        session._model_bytes = None
        return session


def _refuse_cpu(raw: Any, name: str) -> None:
    """get_available_providers() lists CUDA without a GPU too; only the session tells the truth."""
    if raw.get_providers()[0] != CUDA:
        raise DeviceError(f"CUDA is not usable here: onnxruntime put {name} on {raw.get_providers()[0]}")


def adds_bytes_in_16_bits(root: Path = Path("/")) -> bool:
    """Whether this CPU's 8-bit products overflow in onnxruntime's fast kernels: x86 without VNNI.

    `root` is where /proc hangs; where it tells nothing, the careful answer for x86.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    flags = _text(root / "proc/cpuinfo").partition("flags")[2].partition("\n")[0].split()
    return not {"avx512_vnni", "avx_vnni"} & set(flags)


def available_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: affinity mask and cgroup quota, at least 1.

    In a container onnxruntime sees the host's cores. `root` is where /proc and /sys hang.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quotas = [*_quotas_v2(root), _quota_v1(root)]
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas if quota)]))


def _quotas_v2(root: Path) -> list[float | None]:
    """Cores by cgroup v2, of this process's group and all above it.

    cpu.max holds "quota period" or "max period" in microseconds.
    """
    own = _text(root / "proc/self/cgroup").rpartition("0::/")[2].splitlines()
    groups = PurePosixPath(own[0] if own else "")
    files = [root / "sys/fs/cgroup" / group / "cpu.max" for group in (groups, *groups.parents)]
    return [_ratio(*_text(file).partition(" ")[::2]) for file in files]


def _quota_v1(root: Path) -> float | None:
    """Cores by cgroup v1; a quota of -1 means none."""
    folder = root / "sys/fs/cgroup/cpu"
    return _ratio(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
