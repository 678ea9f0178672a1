"""What is looked at when somebody asks for /metrics: queue, memory, workers, the bundle, GPUs."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from faceswap import memory
from service.lifecycle import Phase
from service.nvml import Driver
from service.parts import Parts

Together = Literal["livesum", "livemin", "livemax"]
"""What several processes with one folder of metrics say together; those that have ended count no more."""
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
UNLIMITED = 2**60
"""cgroups of version 1 say "no limit" by a number near 2**63."""


class Gauges:
    """Set by `refresh`, not while requests are worked on."""

    def __init__(self, registry: CollectorRegistry, driver: Driver | None = None) -> None:
        self._registry = registry
        self._driver = driver
        self._cpu_seen = 0.0
        self._said: dict[int, tuple[str, ...]] = {}
        self._cpu = Counter("process_cpu_seconds", "Processor time, user and system.", registry=registry)
        self._queue = self._gauge("swap_queue_depth", "Faces that wait for a worker.")
        self._inside = self._gauge("swap_photos_inside", "Faces inside the service, by the places they take.")
        self._places = self._gauge("swap_photos_limit", "Places there are: FACESWAPD_QUEUE_IMAGES.")
        self._streams = self._gauge("swap_streams_open", "Streams open now.")
        self._seats = self._gauge("swap_streams_limit", "Most streams: FACESWAPD_STREAMS.")
        self._loaded = self._gauge("swap_identities_loaded", "Identities whose decoder is in memory.")
        self._known = self._gauge("swap_identities", "Identities of the bundle.", "livemax")
        self._decoders = self._gauge("swap_decoders_memory_bytes", "Memory of the decoders, estimated.")
        self._decoders_limit = self._gauge(
            "swap_decoders_memory_limit_bytes", "FACESWAPD_DECODER_MEMORY_MIB; 0 where there is no limit."
        )
        self._dead = self._gauge("swap_workers_dead", "Workers that have died or hang: restart the process.")
        self._workers = self._gauge("swap_workers", "Threads that run the networks.")
        self._ready = self._gauge("swap_ready", "1 while new swaps are taken.", "livemin")
        self._resident = self._gauge("process_resident_memory_bytes", "Resident memory.")
        self._limit = self._gauge(
            "swap_memory_limit_bytes", "The container's limit; 0 where there is none.", "livemax"
        )
        self._start = self._gauge("process_start_time_seconds", "Start of the service, Unix time.", "livemax")
        self._provider = self._gauge(
            "swap_provider_info", "1 for what onnxruntime really runs on.", "livemax", "provider", "precision"
        )
        self._bundle = self._gauge(
            "swap_bundle_created_seconds", "When the bundle was made, Unix time.", "livemax", "bundle"
        )
        self._version = self._gauge("swap_build_info", "1 for the version that runs.", "livemax", "version")
        self._gpu_used = self._gauge("swap_gpu_memory_used_bytes", "By all programs.", "livemax", "gpu")
        self._gpu_total = self._gauge("swap_gpu_memory_total_bytes", "Of the GPU.", "livemax", "gpu")
        self._gpu_busy = self._gauge("swap_gpu_busy_ratio", "Share of time in use.", "livemax", "gpu")

    def _gauge(self, name: str, text: str, together: Together = "livesum", *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=together)

    def refresh(self, parts: Parts) -> None:
        """Everything as it is now. From any thread; takes no lock of the swap path but the queue's."""
        self._queue.set(parts.batcher.depth)
        self._inside.set(parts.admission.taken)
        self._places.set(parts.admission.images)
        self._streams.set(parts.seats.taken)
        self._seats.set(parts.seats.limit)
        self._dead.set(len(parts.batcher.dead_workers()))
        self._workers.set(parts.workers)
        self._ready.set(parts.lifecycle.phase is Phase.READY)
        self._start.set(parts.started.timestamp())
        self._refresh_bundle(parts)
        self._refresh_process()
        self._refresh_gpus(parts.swapper.provider)
        self._labelled(self._version, parts.version)

    def _refresh_bundle(self, parts: Parts) -> None:
        swapper = parts.swapper
        self._loaded.set(len(swapper.decoders.loaded))
        self._known.set(len(swapper.manifest.identities))
        self._decoders.set(swapper.decoders.bytes)
        self._decoders_limit.set(swapper.decoders.limit_bytes or 0)
        self._labelled(self._provider, swapper.provider, swapper.precision.value)
        made = datetime.fromisoformat(swapper.manifest.created).timestamp()
        self._labelled(self._bundle, swapper.manifest.name, value=made)

    def _refresh_process(self) -> None:
        self._resident.set(memory.resident_bytes() or 0)
        self._limit.set(memory_limit() or 0)
        used = time.process_time()
        self._cpu.inc(max(used - self._cpu_seen, 0))
        self._cpu_seen = used

    def _refresh_gpus(self, provider: str) -> None:
        if provider.startswith("CPU"):
            return
        self._driver = self._driver or Driver()
        for gpu in self._driver.gpus():
            self._gpu_used.labels(gpu.index).set(gpu.memory_used)
            self._gpu_total.labels(gpu.index).set(gpu.memory_total)
            if gpu.busy is not None:
                self._gpu_busy.labels(gpu.index).set(gpu.busy)

    def _labelled(self, gauge: Gauge, *labels: str, value: float = 1) -> None:
        """What is true now. After a reload the labels of before are 0: the files of processes forget none."""
        before = self._said.get(id(gauge), labels)
        if before != labels:
            gauge.labels(*before).set(0)
        gauge.labels(*labels).set(value)
        self._said[id(gauge)] = labels


def memory_limit(files: tuple[Path, ...] = LIMITS) -> int | None:
    """Bytes that the cgroup may use; None where there is no limit, or no cgroup."""
    for file in files:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdecimal() and int(text) < UNLIMITED else None
    return None
