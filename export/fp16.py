"""A float graph with float16 layers, for CUDA's tensor cores; head, tail and normalisation stay float32.

float16 ends at 65,504, and VGG19's features reach 110,000. Convolution, ReLU and pooling are positively
homogeneous, so a layer's result may be kept at a 2**k-th of its size: its weights take the factor, a power
of two, which changes exponents only. The weights themselves are those of the fp32 file, borrowed: float16
ones as they are, tables by a Cast that onnxruntime folds when it loads the graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.wiring import Array, Wiring, copy_of, rewired

LAYERS = {"Conv", "Gemm"}
PASSING = {"Relu", "MaxPool", "DepthToSpace", "Reshape", "Transpose", "Flatten", "Identity"}
"""What gives its input's values on, in any scale."""
LARGEST = 65_504.0
ROOM = 16
"""Crops of the calibration fill at most this part of float16's range: other photos may be unlike them."""


class Halves:
    """What of a graph is done in float16, and which results share a scale."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.wiring = Wiring(copy_of(model))
        self.group: dict[str, str] = {}
        """Result -> the first result that must have the same scale."""
        for node in self.wiring.model.graph.node:
            self._look_at(node)

    @property
    def tensors(self) -> list[str]:
        """Results whose size has to be measured: all others are no larger than one of these."""
        makers = self.wiring.maker
        return [name for name in self.group if makers[name].op_type in {*LAYERS, "Add"}]

    def exponents(self, peaks: Mapping[str, float]) -> dict[str, int]:
        """Of each result in float16: it is kept at a 2**k-th of its size. `peaks` are largest magnitudes."""
        needed: dict[str, int] = {}
        for name in self.tensors:
            first = self.first(name)
            needed[first] = max(needed.get(first, 0), exponent(peaks[name]))
        return {name: needed[self.first(name)] for name in self.group}

    def first(self, name: str) -> str:
        while self.group[name] != name:
            name = self.group[name]
        return name

    def _look_at(self, node: onnx.NodeProto) -> None:
        taken, given = list(node.input), node.output[0]
        if node.op_type in LAYERS and self._is_layer(node):
            self.group[given] = given
        elif node.op_type in PASSING and taken[0] in self.group:
            self.group[given] = self.first(taken[0])
        elif node.op_type == "Add" and all(name in self.group for name in taken):
            one, other = (self.first(name) for name in taken)
            self.group[other] = self.group[given] = one

    def _is_layer(self, node: onnx.NodeProto) -> bool:
        return [self.wiring.is_constant(name) for name in node.input] == [False, True, True]


def exponent(peak: float) -> int:
    """The least k >= 0 with `peak` / 2**k well inside float16."""
    return max(0, math.ceil(math.log2(max(peak, 1.0) * ROOM / LARGEST)))


def to_fp16(model: onnx.ModelProto, exponents: Mapping[str, int], emulated: bool = False) -> onnx.ModelProto:
    """`model` with its layers in float16; `exponents` of `Halves`.

    `emulated` computes in float32 and rounds every result to float16, overflow included. onnxruntime's CPU
    provider, given the true graph, keeps results in float32 instead and so shows neither.
    """
    return _Writer(Halves(model), exponents, emulated).write()


class _Writer:
    def __init__(self, halves: Halves, exponents: Mapping[str, int], emulated: bool) -> None:
        self.wiring = halves.wiring
        self.exponents = exponents
        self.emulated = emulated
        self.nodes: list[onnx.NodeProto] = []
        self.done: set[str] = set()

    def write(self) -> onnx.ModelProto:
        for node in list(self.wiring.model.graph.node):
            if node.output[0] not in self.exponents:
                inputs = [self._float(name) for name in node.input]
                self.nodes.append(rewired(node, inputs, list(node.output)))
            elif node.op_type in LAYERS:
                self._layer(node)
            else:
                halves = [self._half(name) if name in self.exponents else name for name in node.input]
                self._give(node, halves)
        for name in self.wiring.outputs & self.exponents.keys():
            self.nodes.append(helper.make_node("Identity", [self._float(name)], [name]))
        return self.wiring.rebuilt(self.nodes)

    def _layer(self, node: onnx.NodeProto) -> None:
        taken, weight, bias = node.input
        given = self.exponents[node.output[0]]
        factor = 2.0 ** (self.exponents.get(taken, 0) - given)
        self._give(node, [self._half(taken), self._weight(weight, factor), self._bias(bias, 2.0**-given)])

    def _give(self, node: onnx.NodeProto, inputs: list[str]) -> None:
        """The node in float16, or in float32 with its result rounded."""
        half = f"{node.output[0]}.fp16"
        if not self.emulated or node.op_type in PASSING:  # what is given on is rounded already
            self.nodes.append(rewired(node, inputs, [half]))
            return
        self.nodes.append(rewired(node, inputs, [f"{half}.exact"]))
        self._round(f"{half}.exact", half)

    def _half(self, name: str) -> str:
        """`name` in float16."""
        half = f"{name}.fp16"
        if name not in self.exponents and half not in self.done:
            self.done.add(half)
            self._round(name, half)
        return half

    def _float(self, name: str) -> str:
        """`name` in float32 and in its own size."""
        if name not in self.exponents:
            return name
        whole = f"{name}.fp32"
        if whole not in self.done:
            self.done.add(whole)
            scaled = f"{name}.fp16"
            if not self.emulated:
                scaled = self._add("Cast", [scaled], f"{name}.cast", to=TensorProto.FLOAT)
            factor = self.wiring.constant(f"{name}.size", np.array(2.0 ** self.exponents[name], np.float32))
            if self.exponents[name]:
                self._add("Mul", [scaled, factor], whole)
            else:
                self._add("Identity", [scaled], whole)
        return whole

    def _round(self, name: str, half: str) -> None:
        if self.emulated:
            self._add("Cast", [name], f"{half}.bits", to=TensorProto.FLOAT16)
            self._add("Cast", [f"{half}.bits"], half, to=TensorProto.FLOAT)
        else:
            self._add("Cast", [name], half, to=TensorProto.FLOAT16)

    def _weight(self, name: str, factor: float) -> str:
        maker = self.wiring.maker.get(name)
        if factor == 1.0 and maker is not None and maker.op_type == "Cast" and not self.emulated:
            stored = self.wiring.stored.get(maker.input[0])
            if stored is not None and stored.data_type == TensorProto.FLOAT16:
                return str(maker.input[0])
        half = f"{name}.fp16"
        if half not in self.done:
            self.done.add(half)
            scaled = name
            if factor != 1.0:
                scale = self.wiring.constant(f"{name}.size", np.array(factor, np.float32))
                scaled = self._add("Mul", [name, scale], f"{name}.sized")
            self._round(scaled, half)
        return half

    def _bias(self, name: str, factor: float) -> str:
        """Stored anew: a few hundred numbers."""
        values: Array = (self.wiring.value(name) * factor).astype(np.float16)
        return self.wiring.constant(f"{name}.fp16", values.astype(np.float32) if self.emulated else values)

    def _add(self, kind: str, inputs: list[str], output: str, to: int | None = None) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], to=to))
        return output
