"""How large the values of a tensor are, from what crops make of it: for its bytes, or its float16."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from export.int8 import Range
from export.wiring import copy_of

SAMPLES = 20_000
"""Values looked at of each tensor and batch."""
BATCH = 16
SHARES = np.linspace(0.3, 1.0, 36)
"""Of the largest value seen: rare large ones are cut off where that makes the others finer."""

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]


def ranges(model: onnx.ModelProto, tensors: Collection[str], batch: Array, threads: int) -> dict[str, Range]:
    """The range of each of `tensors` with the least squared error of rounding, for the inputs `batch`."""
    random = np.random.default_rng(0)
    samples: dict[str, list[Floats]] = {name: [] for name in tensors}
    limits = dict.fromkeys(tensors, (0.0, 0.0))
    for part in _values(model, sorted(tensors), batch, threads):
        for name, values in part.items():
            low, high = limits[name]
            limits[name] = min(low, float(values.min())), max(high, float(values.max()))
            chosen = random.integers(0, values.size, min(values.size, SAMPLES))
            samples[name].append(values.ravel()[chosen])
    return {name: _best(np.concatenate(samples[name]), limits[name]) for name in tensors}


def peaks(model: onnx.ModelProto, tensors: Collection[str], batch: Array, threads: int) -> dict[str, float]:
    """The largest magnitude of each of `tensors` for the inputs `batch`."""
    found = dict.fromkeys(tensors, 0.0)
    for part in _values(model, sorted(tensors), batch, threads):
        for name, values in part.items():
            found[name] = max(found[name], float(np.abs(values).max()))
    return found


def _best(values: Floats, limits: Range) -> Range:
    return min(
        ((limits[0] * share, limits[1] * share) for share in SHARES),
        key=lambda cut: _squared_error(values, cut),
    )


def _squared_error(values: Floats, limits: Range) -> float:
    low, high = limits
    step = max((high - low) / 255, 1e-12)
    rounded = np.rint((values - low) / step).clip(0, 255) * step + low
    return float(np.square(rounded - values).mean())


def _values(
    model: onnx.ModelProto, tensors: list[str], batch: Array, threads: int
) -> Iterator[dict[str, Floats]]:
    """`tensors` of the graph, BATCH items at a time."""
    model = copy_of(model)
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (taken,) = session.get_inputs()
    for start in range(0, len(batch), BATCH):
        answers = session.run(tensors, {taken.name: batch[start : start + BATCH]})
        yield dict(zip(tensors, answers, strict=True))
