"""A float graph with 8-bit layers: QuantizeLinear and DequantizeLinear round what onnxruntime then fuses.

Activations are unsigned bytes with one step a tensor, weights signed bytes with one step an output channel.
Where bytes only move (pooling, reshapes, shuffles) they stay bytes. onnxruntime makes QLinearConv,
QLinearAdd and QGemm of the rest when it loads the graph, and rounds the weights then too, so they need not
be stored a second time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from export.wiring import Wiring, copy_of, rewired

Range = tuple[float, float]
"""Smallest and largest value that a tensor's bytes stand for."""

Floats = npt.NDArray[np.float32]
LAYERS = {"Conv", "Gemm"}
FEW_CHANNELS = 8
"""The first convolution, of three, is 0.15 ms faster in float."""
MOVES = {"Identity", "MaxPool", "Reshape", "Transpose", "DepthToSpace", "Flatten"}
"""What gives back some of the values that it takes."""
PARTS = {*MOVES, "Slice", "Split", "Sub"}
"""What a face's planes go through before a sigmoid; a difference is that of a value's two signs."""


def layer_name(node: onnx.NodeProto) -> str:
    """That of the network's layer: vgg.convolutions.block1_conv1."""
    weight: str = node.input[1]
    return weight.partition(".weight")[0].removeprefix("network.")


class Plan:
    """What of a graph is done in bytes: every layer and residual sum, less those that stay in float."""

    def __init__(self, model: onnx.ModelProto, in_float: Collection[str] = ()) -> None:
        self.wiring = Wiring(copy_of(model))
        nodes = self.wiring.model.graph.node
        layers = {layer_name(node): node for node in nodes if self._is_layer(node)}
        self.unfit = {name: why for name, node in layers.items() if (why := self._unfit(node))}
        """Layers that bytes would slow down, and why."""
        self.layers = {name: node for name, node in layers.items() if name not in self.unfit}
        chosen = [node for name, node in self.layers.items() if name not in in_float]
        self.chosen = {node.output[0] for node in chosen}
        self.sums = {node.output[0] for node in nodes if node.op_type == "Add" and self._is_residual(node)}
        self.tensors = self._tensors(chosen)

    def _is_layer(self, node: onnx.NodeProto) -> bool:
        constant = [self.wiring.is_constant(name) for name in node.input]
        return node.op_type in LAYERS and constant == [False, True, True]

    def _unfit(self, node: onnx.NodeProto) -> str | None:
        if node.op_type == "Gemm" and self.result(node.output[0]) != node.output[0]:
            return "onnxruntime has no 8-bit matrix product with a ReLU"
        few = node.op_type == "Conv" and self.wiring.value(node.input[1]).shape[1] < FEW_CHANNELS
        return "too few channels for an 8-bit kernel to gain" if few else None

    def _is_residual(self, node: onnx.NodeProto) -> bool:
        makers = [self.wiring.maker.get(self.origin(name)) for name in node.input]
        return all(maker is not None for maker in makers) and any(
            maker is not None and maker.output[0] in self.chosen for maker in makers
        )

    def _tensors(self, chosen: list[onnx.NodeProto]) -> set[str]:
        """Stored in bytes: what the chosen layers take and give. QGemm alone may give floats."""
        tensors = {self.origin(node.input[0]) for node in chosen}
        tensors |= {self.result(node.output[0]) for node in chosen if node.op_type == "Conv"}
        for name in self.sums:
            tensors |= {self.origin(each) for each in self.wiring.maker[name].input} | {self.result(name)}
        return tensors

    @property
    def squashed(self) -> set[str]:
        """Those of `tensors` of which the rest of the graph sees no more than a sigmoid."""
        return {name for name in self.tensors if self._ends_in_sigmoid(name)}

    def _ends_in_sigmoid(self, name: str) -> bool:
        users = self.wiring.users[name]
        return bool(users) and all(
            user.op_type == "Sigmoid"
            or (user.op_type in PARTS and all(self._ends_in_sigmoid(given) for given in user.output))
            for user in users
        )

    def origin(self, name: str) -> str:
        """The tensor whose values these are, before they were moved about."""
        node = self.wiring.maker.get(name)
        while node is not None and node.op_type in MOVES:
            name = node.input[0]
            node = self.wiring.maker.get(name)
        return name

    def result(self, name: str) -> str:
        """After the ReLU, which costs nothing in bytes: they begin at 0."""
        user = self.wiring.only_user(name)
        is_relu = user is not None and user.op_type == "Relu"
        return str(user.output[0]) if user is not None and is_relu else name


def to_int8(
    model: onnx.ModelProto, ranges: Mapping[str, Range], in_float: Collection[str] = ()
) -> onnx.ModelProto:
    """`model` with its layers in bytes but for those named in `in_float`; `ranges` of `Plan.tensors`."""
    return _Writer(Plan(model, in_float), ranges).write()


class _Writer:
    def __init__(self, plan: Plan, ranges: Mapping[str, Range]) -> None:
        self.plan = plan
        self.wiring = plan.wiring
        self.ranges = ranges
        self.nodes: list[onnx.NodeProto] = []
        self.done: set[str] = set()

    def write(self) -> onnx.ModelProto:
        for node in list(self.wiring.model.graph.node):
            if node.output[0] in self.plan.chosen:
                self._layer(node)
            elif node.op_type in MOVES and self.plan.origin(node.input[0]) in self.plan.tensors:
                self._move(node)
            else:
                self._other(node)
        self._give()
        return self.wiring.rebuilt(self.nodes)

    def _layer(self, node: onnx.NodeProto) -> None:
        taken, weight, bias = node.input
        steps = self._weights(weight)
        inputs = [self._floats(taken), f"{weight}.rounded", self._bias(bias, steps, taken)]
        self.nodes.append(rewired(node, inputs, list(node.output)))

    def _move(self, node: onnx.NodeProto) -> None:
        given = f"{node.output[0]}.bytes"
        inputs = [self._bytes(node.input[0]), *node.input[1:]]
        self.done.add(given)
        self.nodes.append(rewired(node, inputs, [given]))

    def _other(self, node: onnx.NodeProto) -> None:
        inputs = [self._floats(name) if self._in_bytes(name, node) else name for name in node.input]
        self.nodes.append(rewired(node, inputs, list(node.output)))

    def _in_bytes(self, name: str, node: onnx.NodeProto) -> bool:
        """A ReLU or a sum right after a layer is fused with it; who else reads the layer reads bytes."""
        if self.plan.origin(name) not in self.plan.tensors:
            return False
        origin = self.wiring.maker.get(self.plan.origin(name))
        made_in_bytes = origin is not None and origin.op_type in {*LAYERS, "Relu", "Add"}
        return made_in_bytes or name != self.plan.origin(name) or node.output[0] in self.plan.sums

    def _give(self) -> None:
        """Outputs of the graph are floats whatever they were made of."""
        for name in self.wiring.outputs:
            if name != self.plan.origin(name) and self.plan.origin(name) in self.plan.tensors:
                self.nodes.append(helper.make_node("Identity", [self._floats(name)], [name]))

    def _bytes(self, name: str) -> str:
        """`name` as unsigned bytes."""
        result = f"{name}.bytes"
        if result not in self.done:
            self.done.add(result)
            self.nodes.append(helper.make_node("QuantizeLinear", [name, *self._step(name)], [result]))
        return result

    def _floats(self, name: str) -> str:
        """`name` after it was rounded to bytes."""
        result = f"{name}.rounded"
        if result not in self.done:
            taken = self._bytes(name)
            self.done.add(result)
            self.nodes.append(helper.make_node("DequantizeLinear", [taken, *self._step(name)], [result]))
        return result

    def _step(self, name: str) -> list[str]:
        """Names of scale and zero point; what was only moved has those of its origin."""
        origin = self.plan.origin(name)
        scale, zero = scale_of(self.ranges[origin])
        return [
            self.wiring.constant(f"{origin}.scale_", scale),
            self.wiring.constant(f"{origin}.zero_", zero),
        ]

    def _weights(self, name: str) -> Floats:
        """Rounds a layer's weights and returns the step of each output channel."""
        values = self.wiring.value(name)
        largest = np.abs(values).reshape(len(values), -1).max(axis=1)
        steps: Floats = (np.maximum(largest, 1e-9) / 127).astype(np.float32)
        scale = self.wiring.constant(f"{name}.steps", steps)
        zero = self.wiring.constant(f"{name}.zeros", np.zeros(len(steps), np.int8))
        if name in self.wiring.stored:  # of the rearranged graph alone, so there is nothing to borrow
            by_channel = steps.reshape(-1, *[1] * (values.ndim - 1))
            rounded = np.rint(values / by_channel).clip(-127, 127).astype(np.int8)
            self.wiring.constant(f"{name}.bytes", rounded)
        else:
            self._add("QuantizeLinear", [name, scale, zero], f"{name}.bytes")
        self._add("DequantizeLinear", [f"{name}.bytes", scale, zero], f"{name}.rounded")
        return steps

    def _bias(self, name: str, steps: Floats, taken: str) -> str:
        """In 32 bits, by the step of the products that it is added to."""
        scale, _ = scale_of(self.ranges[self.plan.origin(taken)])
        products = (steps * scale).astype(np.float32)
        limit = 2.0**31 - 1
        rounded = np.rint(self.wiring.value(name) / products.astype(np.float64)).clip(-limit, limit)
        whole = self.wiring.constant(f"{name}.whole", rounded.astype(np.int32))
        self._add(
            "DequantizeLinear", [whole, self.wiring.constant(f"{name}.steps", products)], f"{name}.rounded"
        )
        return f"{name}.rounded"

    def _add(self, kind: str, inputs: list[str], output: str) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], axis=0))


def scale_of(limits: Range) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Step and zero point of unsigned bytes for values in `limits`; 0 is always one of them."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    step = max((high - low) / 255, 1e-12)
    return np.array(step, np.float32), np.array(round(-low / step), np.uint8)
