"""An ONNX graph to be changed: who makes a tensor, who uses it, what a constant is, how large things are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.bundle import ExportError

Array = npt.NDArray[Any]


class Wiring:
    """Looks into `model`, which stays as it is until `rebuilt`."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.maker = {name: node for node in model.graph.node for name in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.users[name].append(node)
        self.outputs = {value.name for value in model.graph.output}
        self.inputs = {value.name for value in model.graph.input}
        self.shapes = _shapes(model)

    def value(self, name: str) -> Array:
        """Of a constant: stored, or made of what is stored. ExportError if it is none."""
        if name in self.stored:
            return numpy_helper.to_array(self.stored[name])
        node = self.maker.get(name)
        make = _MAKERS.get(node.op_type) if node is not None else None
        if node is None or make is None:
            raise ExportError(f"{name} of the graph is no constant that can be read")
        return make(node, [self.value(each) for each in node.input])

    def is_constant(self, name: str) -> bool:
        """Whether no input of the graph takes part in it."""
        if name in self.stored:
            return True
        node = self.maker.get(name)
        return node is not None and all(self.is_constant(each) for each in node.input)

    def only_user(self, name: str) -> onnx.NodeProto | None:
        """The node that uses `name`, if there is one and nothing else does."""
        users = self.users[name]
        return users[0] if len(users) == 1 and name not in self.outputs else None

    def constant(self, name: str, value: Array) -> str:
        """Stores `value` (once) and returns `name`."""
        if name not in self.stored:
            self.stored[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def rebuilt(self, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
        """The model with `nodes` for its own, without those that lead nowhere and what only they used."""
        graph = self.model.graph
        kept = _needed(nodes, self.outputs)
        used = {name for node in kept for name in node.input}
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(kept)
        graph.initializer.extend(tensor for name, tensor in self.stored.items() if name in used)
        return self.model


_TYPES = {TensorProto.FLOAT: np.float32, TensorProto.INT32: np.int32}
_MAKERS: dict[str, Callable[[onnx.NodeProto, list[Array]], Array]] = {
    "Cast": lambda node, inputs: inputs[0].astype(_TYPES[attribute(node, "to")]),
    "Gather": lambda _, inputs: np.take(inputs[0], inputs[1], axis=0),
    "Mul": lambda _, inputs: inputs[0] * inputs[1],
}
"""What the weights of a stored graph (export/storage.py) and of a rearranged one are made by."""


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def rewired(node: onnx.NodeProto, inputs: list[str], outputs: list[str]) -> onnx.NodeProto:
    """A copy of `node` between other tensors."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = inputs
    copy.output[:] = outputs
    return copy


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """None if the node has none of that name."""
    found = [each for each in node.attribute if each.name == name]
    return helper.get_attribute_value(found[0]) if found else None


def _needed(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Sides of every tensor that are known; -1 for the batch."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    return {value.name: _sides(value) for value in values}


def _sides(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(
        side.dim_value if side.HasField("dim_value") else -1 for side in value.type.tensor_type.shape.dim
    )
