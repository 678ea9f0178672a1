"""How weights lie in a file: float16, or a table of their few values."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from models.errors import TrainingError
from models.stored import LEVELS, SMALL, Floats, as_stored, distinct


def store(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Replaces the large float32 initializers in `names` by small ones and nodes that undo it.

    onnxruntime folds those nodes when it loads the graph: the file shrinks, the arithmetic is float32.
    """
    nodes: list[NodeProto] = []
    tensors: list[TensorProto] = []
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if initializer.name not in names or values.dtype != np.float32 or values.size < SMALL:
            tensors.append(initializer)
            continue
        try:
            values = as_stored(values)
        except TrainingError as error:
            raise TrainingError(f"{initializer.name}: {error}") from error
        make = _table if distinct(values) <= LEVELS else _half
        parts, undo = make(initializer.name, values)
        tensors += parts
        nodes += undo
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(tensors)
    model.graph.node.extend(nodes)


def _half(name: str, values: Floats) -> tuple[list[TensorProto], list[NodeProto]]:
    half = numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
    return [half], [helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT)]


def _table(name: str, values: Floats) -> tuple[list[TensorProto], list[NodeProto]]:
    """The table stays float32, so nothing is lost. Gather takes int32, never uint8, hence the Cast."""
    bits, indices = np.unique(values.view(np.uint32), return_inverse=True)
    table = numpy_helper.from_array(bits.view(np.float32), f"{name}.table")
    levels = numpy_helper.from_array(indices.reshape(values.shape).astype(np.uint8), f"{name}.levels")
    return [table, levels], [
        helper.make_node("Cast", [levels.name], [f"{name}.indices"], to=TensorProto.INT32),
        helper.make_node("Gather", [table.name, f"{name}.indices"], [name]),
    ]
