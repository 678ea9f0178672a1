"""The GPUs' own books, by NVIDIA's management library, which comes with the driver."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True)
class Gpu:
    """`busy` is the share of the last second in which anything ran; None where the driver cannot tell."""

    index: int
    memory_used: int
    memory_total: int
    busy: float | None


class _Memory(ctypes.Structure):
    """nvmlMemory_t, bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t, percent."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Driver:
    """Opened once. Without a driver, or where it refuses to tell, there are no GPUs. From any thread."""

    def __init__(self, library: Any = None) -> None:
        self._library = library
        if library is None:
            with suppress(OSError):
                self._library = ctypes.CDLL(LIBRARY)
        if self._library is not None and self._library.nvmlInit_v2() != 0:
            self._library = None

    def gpus(self) -> list[Gpu]:
        """Those that this process may see; takes about a millisecond for each."""
        return [] if self._library is None else list(self._read(self._library))

    def _read(self, library: Any) -> Iterator[Gpu]:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return
        for index in range(count.value):
            device, memory, use = ctypes.c_void_p(), _Memory(), _Utilization()
            if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
                continue
            if library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) != 0:
                continue
            told = library.nvmlDeviceGetUtilizationRates(device, ctypes.byref(use)) == 0
            yield Gpu(index, memory.used, memory.total, use.gpu / 100 if told else None)
