"""What CUDA is told, what is asked of its runtime library, and whether it has failed.

Nothing in here imports anything of NVIDIA's: the library is looked for when a session really runs there.
"""

from __future__ import annotations

import ctypes
import logging
import math
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from faceswap.errors import DeviceLostError

LIBRARIES = ("libcudart.so.13", "libcudart.so.12")
"""By the names under which `onnxruntime.preload_dlls` has loaded one: dlopen finds that one again."""
_PORTABLE = 1
"""cudaHostAllocPortable: pinned for every thread's context."""
_TO_HOST = 2
"""cudaMemcpyDeviceToHost"""

Array = npt.NDArray[Any]
T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CudaOptions:
    """`max_batch`: the largest batch that runs at once, and for which memory is set aside.

    `arena_bytes` is the most that the arena of one network may take. `graphs` records each network's kernels
    once for each size of batch and replays them. `channels_last` asks for convolutions in that layout.
    """

    max_batch: int = 64
    graphs: bool = False
    arena_bytes: int | None = None
    channels_last: bool = False

    @property
    def buckets(self) -> tuple[int, ...]:
        """Sizes of batches that really run: 1, 2, 4 and so on, and the largest one."""
        powers = [2**power for power in range(max(math.ceil(math.log2(self.max_batch)), 0))]
        return (*powers, self.max_batch)

    def provider(self) -> dict[str, str]:
        """onnxruntime's options of its CUDA provider."""
        given = {
            # EXHAUSTIVE, the default, searches 0.3-1.3 s for every new batch size.
            "cudnn_conv_algo_search": "HEURISTIC",
            # The default doubles the arena with every growth, in each of a thousand decoders; all sizes are
            # run before the first request, so it grows there and never later.
            "arena_extend_strategy": "kSameAsRequested",
        }
        if self.arena_bytes is not None:
            given["gpu_mem_limit"] = str(self.arena_bytes)
        if self.channels_last:
            given["prefer_nhwc"] = "1"
        if self.graphs:
            given["enable_cuda_graph"] = "1"
        return given


class Fault:
    """What has broken the device, once something has. CUDA's errors stay until the process ends."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def note(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
            _log.critical("CUDA has failed, this process has to be replaced: %s", reason)

    def check(self) -> None:
        """DeviceLostError once it is broken."""
        if self.reason is not None:
            raise DeviceLostError(self.reason)


class Lane(Protocol):
    """Where work on the device is done, one step at a time."""

    def run(self, step: Callable[[], T]) -> T: ...


class LockLane:
    """In the caller's thread, one after another: a session's buffers serve one batch at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def run(self, step: Callable[[], T]) -> T:
        with self._lock:
            return step()


class ThreadLane:
    """In one thread for the whole process, which CUDA graphs need.

    onnxruntime keeps a recorded graph with the thread that recorded it (onnxruntime#9978), and while one is
    recorded no other thread may allocate or synchronise: the recording would fail (capture mode "global").
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cuda")

    def run(self, step: Callable[[], T]) -> T:
        return self._pool.submit(step).result()


class Cudart:
    """The few calls of NVIDIA's runtime library that onnxruntime's Python has no door to."""

    def __init__(self, library: Any) -> None:
        self._library = library

    @classmethod
    def find(cls, load: Callable[[str], Any] = ctypes.CDLL) -> Cudart | None:
        """None, and a word in the log, where none is loaded: then memory is neither pinned nor counted."""
        for name in LIBRARIES:
            try:
                return cls(load(name))
            except OSError:
                continue
        _log.info("none of %s is there: buffers are not pinned", ", ".join(LIBRARIES))
        return None

    def used_bytes(self) -> int | None:
        """Device memory in use by all processes; differences tell what a step took."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        failed = self._library.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
        return None if failed else total.value - free.value

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array | None:
        """Zeros in memory that the device reads and writes by itself; None where there is none left."""
        place, size = ctypes.c_void_p(), math.prod(shape) * np.dtype(dtype).itemsize
        if self._library.cudaHostAlloc(ctypes.byref(place), ctypes.c_size_t(size), _PORTABLE) or not place:
            return None
        address = place.value
        memory = (ctypes.c_uint8 * size).from_address(address or 0)
        # Kept by every view of it; at the end of the process the driver frees it by itself.
        weakref.finalize(memory, self._library.cudaFreeHost, ctypes.c_void_p(address)).atexit = False
        array: Array = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
        array[...] = 0
        return array

    def copy(self, address: int, array: Array) -> None:
        """From the device into `array`; RuntimeError with CUDA's number."""
        to, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        failed = self._library.cudaMemcpy(to, ctypes.c_void_p(address), size, _TO_HOST)
        if failed:
            raise RuntimeError(f"cudaMemcpy: CUDA error {failed}")
