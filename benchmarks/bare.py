"""The ceiling: the bundle's graphs in a bare onnxruntime loop, without HTTP, pictures or a queue."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from faceswap.bundle import Bundle, FileEntry
from faceswap.faces import CROP_SIZE
from faceswap.sessions import Device, Session, SessionFactory


class BareLoop:
    """One pair of one-thread sessions per core: what gave the highest rate on a CPU.

    On CUDA one pair alone, as the card runs one graph at a time.
    """

    def __init__(self, bundle: Bundle, identity: str, device: Device, cores: int) -> None:
        self._factory = SessionFactory(device, threads=1)
        encoder, decoder = bundle.manifest.encoder.graph, bundle.identity(identity).decoder

        def pair() -> tuple[Session, Session]:
            return self._open(bundle, encoder), self._open(bundle, decoder)

        first = pair()
        self.provider = first[0].provider
        more = 0 if self.provider.startswith("CUDA") else cores - 1
        self._pairs = [first, *(pair() for _ in range(more))]

    def _open(self, bundle: Bundle, graph: FileEntry) -> Session:
        return self._factory.open(bundle.read(graph), graph.path)

    def rate(self, batch: int, seconds: float) -> float:
        """Swaps per second over about `seconds`, in batches of `batch`."""
        crops = np.random.default_rng(0).integers(0, 256, (batch, CROP_SIZE, CROP_SIZE, 3), np.uint8)
        for encoder, decoder in self._pairs:
            decoder.run(encoder.run(crops))
        together = threading.Barrier(len(self._pairs))
        with ThreadPoolExecutor(len(self._pairs)) as pool:
            jobs = [pool.submit(_loop, *pair, crops, seconds, together) for pair in self._pairs]
            return sum(job.result() for job in jobs)


def _loop(
    encoder: Session,
    decoder: Session,
    crops: npt.NDArray[np.uint8],
    seconds: float,
    together: threading.Barrier,
) -> float:
    """Swaps per second of one pair of sessions; starts with the others."""
    together.wait()
    start, runs = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        decoder.run(encoder.run(crops))
        runs += 1
    return runs * len(crops) / passed
