"""A graph on CUDA: batches padded to a few sizes, each with buffers that never move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceswap.cuda import Array, CudaOptions, Cudart, Fault, Lane
from faceswap.errors import DeviceError, DeviceLostError
from faceswap.signatures import DTYPES, first_line

RECORDING_RUNS = 3
"""onnxruntime runs a graph twice for the arena to grow before it records (onnxruntime#14942, #15005)."""
SAME = 0.02
"""Of the largest value: as far replayed and plain answers may differ, if kernels add in another order."""
NOT_RECORDED = "-1"


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """One size of batch: host memory, device memory, and what binds a run to them.

    A recorded graph reads and writes the very addresses of its recording, so all of these stay.
    """

    size: int
    taken: Array
    """(size, ...) on the host, pinned where that can be; what a run is given."""
    given: Array | None
    """The same for the answer; None where answers are copied by onnxruntime."""
    on_device: Any
    answer: Any
    binding: Any
    options: Any


class CudaSession:
    """An onnxruntime session with one input and one output; `run` is safe from any thread."""

    def __init__(
        self,
        session: Any,
        runtime: Any,
        options: CudaOptions,
        lane: Lane,
        fault: Fault,
        cudart: Cudart | None = None,
        device: str = "cuda",
    ) -> None:
        """`runtime` is the onnxruntime module; `device` is "cpu" in tests of the binding itself."""
        self.provider: str = session.get_providers()[0]
        self._session = session
        self._runtime = runtime
        self._options = options
        self._lane = lane
        self._fault = fault
        self._cudart = cudart
        self._device = device
        self._buckets: dict[int, Bucket] = {}

    def run(self, batch: Array) -> Array:
        """(N, ...) -> (N, ...); more than the largest bucket in several runs. DeviceLostError."""
        largest = self._options.max_batch
        parts = [self._guarded(batch[start : start + largest]) for start in range(0, len(batch), largest)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _guarded(self, batch: Array) -> Array:
        """CUDA's errors break the device for the whole process; nothing is tried a second time."""
        self._fault.check()
        try:
            return self._lane.run(lambda: self._run(batch))
        except DeviceError:
            raise
        except Exception as error:
            self._fault.note(first_line(error))
            raise DeviceLostError(first_line(error)) from error

    def _run(self, batch: Array) -> Array:
        count = len(batch)
        size = next(size for size in self._options.buckets if size >= count)
        bucket = self._buckets.get(size)
        if bucket is None:
            bucket = self._buckets[size] = self._prepared(size, batch)
        bucket.taken[:count] = batch
        bucket.taken[count:] = 0  # nobody's face of the run before
        self._compute(bucket)
        return self._answer(bucket, count)

    def _compute(self, bucket: Bucket) -> None:
        # Never by binding the host's array: a replay would not copy it again (onnxruntime#29782).
        bucket.on_device.update_inplace(bucket.taken)
        self._session.run_with_iobinding(bucket.binding, bucket.options)
        bucket.binding.synchronize_outputs()  # the copy below goes by another stream

    def _answer(self, bucket: Bucket, count: int) -> Array:
        if bucket.given is None or self._cudart is None:
            plain: Array = bucket.answer.numpy()
            return plain[:count]
        answer = bucket.given[:count]
        self._cudart.copy(bucket.answer.data_ptr(), answer)
        return answer.copy()

    def _prepared(self, size: int, like: Array) -> Bucket:
        """Buffers for batches of `size`, and with CUDA graphs the recording, proved by a replay."""
        bucket = self._bucket(size, like)
        if self._options.graphs:
            for _ in range(RECORDING_RUNS):
                self._compute(bucket)
            self._prove(bucket)
        return bucket

    def _bucket(self, size: int, like: Array) -> Bucket:
        (value,), (result,) = self._session.get_inputs(), self._session.get_outputs()
        taken = self._host((size, *like.shape[1:]), like.dtype)
        shape, dtype = self._shape_of(result, taken)
        binding = self._session.io_binding()
        on_device, answer = self._there(taken.shape, taken.dtype), self._there(shape, dtype)
        binding.bind_ortvalue_input(value.name, on_device)
        binding.bind_ortvalue_output(result.name, answer)
        given = self._cudart.pinned(shape, dtype) if self._cudart else None
        return Bucket(size, taken, given, on_device, answer, binding, self._run_options(str(size)))

    def _prove(self, bucket: Bucket) -> None:
        """A replay of other numbers than were recorded must answer as a plain run does. DeviceError."""
        noise = np.random.default_rng(bucket.size).integers(0, 200, bucket.taken.shape)
        bucket.taken[...] = noise.astype(bucket.taken.dtype)
        self._compute(bucket)
        replayed = self._answer(bucket, bucket.size).astype(np.float64)
        plain = self._plainly(bucket.taken).astype(np.float64)
        if np.abs(replayed - plain).max() > SAME * max(1.0, float(np.abs(plain).max())):
            raise DeviceError(
                f"a CUDA graph of batch {bucket.size} does not answer as the network does; "
                "start without CUDA graphs"
            )

    def _shape_of(self, result: Any, taken: Array) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """As the graph declares it, or as a run shows it where sides are left open."""
        sides = tuple(result.shape[1:])
        if all(isinstance(side, int) for side in sides):
            return (len(taken), *sides), np.dtype(DTYPES[result.type])
        answer = self._plainly(taken)
        return answer.shape, answer.dtype

    def _plainly(self, batch: Array) -> Array:
        names = {self._session.get_inputs()[0].name: batch}
        answer: Array = self._session.run(None, names, self._run_options(NOT_RECORDED))[0]
        return answer

    def _run_options(self, graph_id: str) -> Any:
        """Each size has a recording of its own (onnxruntime#19636)."""
        if not self._options.graphs:
            return None
        options = self._runtime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", graph_id)
        return options

    def _host(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        pinned = self._cudart.pinned(shape, dtype) if self._cudart else None
        return np.zeros(shape, dtype) if pinned is None else pinned

    def _there(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return self._runtime.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype.type, self._device, 0)


class Plain:
    """The session's side that `check_signature` looks at, never recorded as a CUDA graph."""

    def __init__(self, session: Any, options: Any) -> None:
        self._session, self._options = session, options
        self.get_inputs: Callable[[], Any] = session.get_inputs
        self.get_outputs: Callable[[], Any] = session.get_outputs

    def run(self, names: list[str] | None, feeds: dict[str, Array]) -> list[Array]:
        answers: list[Array] = self._session.run(names, feeds, self._options)
        return answers
