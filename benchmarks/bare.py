"""The ceilings, without HTTP and without a queue: bare onnxruntime, and the library on whole photos."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.pictures import Upload
from benchmarks.subject import Subject
from faceswap.faces import CROP_SIZE, Image
from faceswap.images import DigitalSource, ImageFormat, read_image, write_image
from faceswap.swapper import FACE_ONLY_SIDE, Swapper

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Rate:
    """By wall clock, and in processor time, which a busy machine does not stretch."""

    swaps_per_s: float
    cpu_ms: float


class Bare:
    """One swapper with one-thread sessions per core: what gave the highest rate on a CPU.

    On CUDA one alone, as the card runs one graph at a time.
    """

    def __init__(self, subject: Subject, identity: str, cores: int) -> None:
        self.identity = identity
        first = subject.open()
        self.provider = first.provider
        more = 0 if self.provider.startswith("CUDA") else cores - 1
        self._swappers = [first, *(subject.open() for _ in range(more))]
        self._alone = subject.open(lone_threads=cores) if more else first

    def networks(self, batch: int, seconds: float) -> Rate:
        """The graphs alone over about `seconds`, in batches of `batch`."""
        calls = [_networks(swapper, self.identity, batch) for swapper in self._swappers]
        return self._rate(calls, batch, seconds)

    def pictures(self, upload: Upload, seconds: float) -> Rate:
        """Read, find, align, encode, decode, write: the work of a request."""
        return self._rate([_whole(swapper, self.identity, upload) for swapper in self._swappers], 1, seconds)

    def networks_ms(self, seconds: float) -> float:
        """Median milliseconds of one face through the graphs, on all cores, with nothing else going on."""
        return _median_ms(_networks(self._alone, self.identity, 1), seconds)

    def picture_ms(self, upload: Upload, seconds: float) -> float:
        """The same with reading the picture and writing the answer."""
        return _median_ms(_whole(self._alone, self.identity, upload), seconds)

    def _rate(self, calls: list[Call], batch: int, seconds: float) -> Rate:
        """One thread for each of `calls`, all starting together; each call swaps `batch` faces."""
        together = threading.Barrier(len(calls))
        for call in calls:
            call()
        cpu = time.process_time()
        with ThreadPoolExecutor(len(calls)) as pool:
            jobs = [pool.submit(_loop, call, seconds, together) for call in calls]
            found = [job.result() for job in jobs]
        cpu = time.process_time() - cpu
        swaps = batch * sum(count for count, _ in found)
        return Rate(batch * sum(count / passed for count, passed in found), 1000 * cpu / swaps)


def rate_of(swapper: Swapper, identity: str | None, batch: int, seconds: float) -> Rate:
    """One thread through the graphs in batches of `batch`; without `identity` faces are encoded only."""
    call = _networks(swapper, identity, batch)
    call()
    cpu = time.process_time()
    count, passed = _loop(call, seconds, threading.Barrier(1))
    return Rate(batch * count / passed, 1000 * (time.process_time() - cpu) / (batch * count))


def _networks(swapper: Swapper, identity: str | None, batch: int) -> Call:
    crops = np.random.default_rng(0).integers(0, 256, (batch, CROP_SIZE, CROP_SIZE, 3), np.uint8)
    if identity is None:
        return lambda: swapper.encode(crops)
    decoder = swapper.decoders.get(identity)
    return lambda: decoder.run(swapper.encode(crops))


def _whole(swapper: Swapper, identity: str, upload: Upload) -> Call:
    """What the service does for `upload`, in a row: see service/swapping.py."""
    ready = "crop=none" in upload.query

    def call() -> bytes:
        if ready:
            crop = swapper.ready_crop(read_image(upload.picture))
        else:
            image = read_image(upload.picture, at_least=FACE_ONLY_SIDE)
            crop = swapper.align(image, swapper.find_face(image))
        (face,) = swapper.decode_faces(swapper.encode(crop.pixels[None]), identity)
        return write_image(Image(face.pixels), ImageFormat.PNG, DigitalSource.TRAINED)

    return call


def _loop(call: Call, seconds: float, together: threading.Barrier) -> tuple[int, float]:
    """How many calls, at least one, in how many seconds."""
    together.wait()
    start, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds or not calls:
        call()
        calls += 1
    return calls, passed


def _median_ms(call: Call, seconds: float) -> float:
    call()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end or not taken:
        call()
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)
