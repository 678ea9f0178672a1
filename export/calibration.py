"""How large the values of a tensor are, from what crops make of it: for its bytes, or its float16."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from export.int8 import Range
from export.wiring import copy_of

SAMPLES = 1250
"""Values looked at of each tensor and crop."""
BATCH = 16
SHARES = np.linspace(0.1, 1.0, 46).tolist()
"""Of the largest value seen: rare large ones are cut off where that makes the others finer."""

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]


def ranges(
    model: onnx.ModelProto,
    tensors: Collection[str],
    batch: Array,
    threads: int,
    squashed: Collection[str] = (),
) -> dict[str, Range]:
    """The range of each of `tensors` with the least error of rounding, for the inputs `batch`.

    The error is squared and a share of the crop's own energy, so that every crop counts the same: the
    exposure is divided out of a face, which makes a few dark photos' values twice as large as the others'.
    Of those in `squashed` only a sigmoid is ever seen, so theirs is the error of the sigmoid.
    """
    random = np.random.default_rng(0)
    samples: dict[str, list[Floats]] = {name: [] for name in tensors}
    limits = dict.fromkeys(tensors, (0.0, 0.0))
    for part in _values(model, sorted(tensors), batch, threads):
        for name, values in part.items():
            low, high = limits[name]
            limits[name] = min(low, float(values.min())), max(high, float(values.max()))
            flat = values.reshape(len(values), -1)
            samples[name].append(flat[:, random.integers(0, flat.shape[1], SAMPLES)])
    return {
        name: best_range(np.concatenate(samples[name]), limits[name], sigmoid if name in squashed else None)
        for name in tensors
    }


def peaks(model: onnx.ModelProto, tensors: Collection[str], batch: Array, threads: int) -> dict[str, float]:
    """The largest magnitude of each of `tensors` for the inputs `batch`."""
    found = dict.fromkeys(tensors, 0.0)
    for part in _values(model, sorted(tensors), batch, threads):
        for name, values in part.items():
            found[name] = max(found[name], float(np.abs(values).max()))
    return found


def best_range(values: Floats, limits: Range, seen: Callable[[Floats], Floats] | None = None) -> Range:
    """For `values` (N, SAMPLES) of N crops within `limits`, of which `seen` is all that the graph sees."""
    seen = seen or _itself
    true = seen(values)
    energy = np.maximum(np.square(true).mean(axis=1), 1e-12)

    def error(cut: Range) -> float:
        squared = np.square(seen(_rounded(values, cut)) - true).mean(axis=1)
        return float((squared / energy).mean())

    return min(((limits[0] * share, limits[1] * share) for share in SHARES), key=error)


def _rounded(values: Floats, limits: Range) -> Floats:
    low, high = limits
    step = max((high - low) / 255, 1e-12)
    rounded: Floats = np.rint((values - low) / step).clip(0, 255) * step + low
    return rounded


def _itself(values: Floats) -> Floats:
    return values


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)), without an overflow however far below 0 x is."""
    squashed: Floats = 0.5 * (1 + np.tanh(0.5 * values))
    return squashed


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
