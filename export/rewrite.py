"""Float graphs rearranged for 8 bits: the same function, in the order that onnxruntime's int8 kernels like.

Measured steps are in docs/performance.md. Each of these keeps the answers but for the order of additions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.wiring import Wiring, attribute, copy_of

Floats = npt.NDArray[np.float32]


def rearranged(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` that computes the same."""
    for step in (
        _biases,
        _scales_into_convolutions,
        _last_convolution_before_its_shuffle,
        _shuffles_in_place,
    ):
        model = _each_node(model, step)
    return model


def scaled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` that computes the same, without the features' scale as a step of its own."""
    return _each_node(_each_node(model, _biases), _scales_into_convolutions)


Step = Callable[[Wiring, onnx.NodeProto], list[onnx.NodeProto] | None]


def _each_node(model: onnx.ModelProto, step: Step) -> onnx.ModelProto:
    """`step` answers with nodes in place of a node, or None; the rest of the graph stays."""
    wiring = Wiring(copy_of(model))
    nodes: list[onnx.NodeProto] = []
    for node in list(wiring.model.graph.node):
        nodes += [node] if (found := step(wiring, node)) is None else found
    return wiring.rebuilt(nodes)


def _biases(wiring: Wiring, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Zeros where the exporter left a bias of zeros out, so that every layer has three inputs."""
    if node.op_type != "Conv" or len(node.input) != 2 or not wiring.is_constant(node.input[1]):
        return None
    zeros = np.zeros(len(wiring.value(node.input[1])), np.float32)
    node.input.append(wiring.constant(f"{node.output[0]}.bias", zeros))
    return [node]


def _scales_into_convolutions(wiring: Wiring, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """relu(conv(x)) * s, s > 0 for each channel, is relu of a convolution with s in its weights.

    Else the channels' very different deviations would share the one step of an 8-bit tensor.
    """
    if node.op_type == "Conv" and (scale := _scale_after(wiring, node)) is not None:
        name = node.output[0]
        by_output = wiring.constant(f"{name}.scale", scale.reshape(-1, 1, 1, 1))
        flat = wiring.constant(f"{name}.scale1", scale.reshape(-1))
        scaled = [f"{node.input[1]}.scaled", f"{node.input[2]}.scaled"]
        nodes = [
            helper.make_node("Mul", [node.input[1], by_output], [scaled[0]]),
            helper.make_node("Mul", [node.input[2], flat], [scaled[1]]),
        ]
        node.input[1:] = scaled
        return [*nodes, node]
    if node.op_type == "Mul":
        relu = wiring.maker.get(node.input[0])
        conv = wiring.maker.get(relu.input[0]) if relu is not None and relu.op_type == "Relu" else None
        if conv is not None and conv.op_type == "Conv" and f"{conv.output[0]}.scale" in wiring.stored:
            return [helper.make_node("Identity", [node.input[0]], [node.output[0]])]
    return None


def _scale_after(wiring: Wiring, conv: onnx.NodeProto) -> Floats | None:
    """(C,) if nothing but Relu and a Mul by positive numbers of each channel follow."""
    relu = wiring.only_user(conv.output[0])
    mul = wiring.only_user(relu.output[0]) if relu is not None and relu.op_type == "Relu" else None
    if mul is None or mul.op_type != "Mul" or mul.input[1] not in wiring.stored or len(conv.input) != 3:
        return None
    scale = numpy_helper.to_array(wiring.stored[mul.input[1]])
    per_channel = scale.ndim == 4 and scale.size == scale.shape[1] and bool((scale > 0).all())
    return scale.astype(np.float32).reshape(-1) if per_channel else None


def _last_convolution_before_its_shuffle(wiring: Wiring, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """A 3x3 convolution of few channels on shuffled sub-pixels, done before the shuffle, in both signs.

    Four times the arithmetic, but a shuffle of 32 planes in place of one of 128, and enough channels for
    the kernels' vectors. Its result x is relu(x) - relu(-x): two bytes for a value whose step would show as
    grain on smooth skin.
    """
    shuffle = wiring.maker.get(node.input[0])
    if node.op_type != "Conv" or not _is_shuffle(shuffle) or len(node.input) != 3:
        return None
    assert shuffle is not None
    weight, bias = wiring.value(node.input[1]), wiring.value(node.input[2])
    plain = attribute(node, "pads") == [1, 1, 1, 1] and attribute(node, "strides") == [1, 1]
    if weight.shape[0] > 8 or weight.shape[2:] != (3, 3) or not plain:
        return None
    weight, bias = _subpixel_weights(weight), np.repeat(bias, 4)
    names = [
        wiring.constant(f"{node.input[1]}.sub", np.concatenate([weight, -weight])),
        wiring.constant(f"{node.input[2]}.sub", np.concatenate([bias, -bias])),
    ]
    name = node.output[0]
    before, parts, whole = f"{name}.sub", f"{name}.parts", f"{name}.whole"
    signs = [f"{name}.above", f"{name}.below"]
    return [
        helper.make_node("Conv", [shuffle.input[0], *names], [before], node.name, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", [before], [parts]),
        helper.make_node("DepthToSpace", [parts], [whole], blocksize=2, mode="CRD"),
        helper.make_node("Split", [whole], signs, axis=1, num_outputs=2),
        helper.make_node("Sub", signs, [name]),
    ]


def _subpixel_weights(weight: Floats) -> Floats:
    """(O, C, 3, 3) on 2h x 2w -> (4 O, 4 C, 3, 3) on h x w; sub-pixel i, j of channel c is 4 c + 2 i + j."""
    outputs, inputs = weight.shape[:2]
    wide = np.zeros((outputs, 2, 2, inputs, 2, 2, 3, 3), np.float32)
    for i, j, y, x in np.ndindex(2, 2, 3, 3):
        (row, p), (column, q) = divmod(i + y - 1, 2), divmod(j + x - 1, 2)
        wide[:, i, j, :, p, q, row + 1, column + 1] = weight[:, :, y, x]
    return wide.reshape(4 * outputs, 4 * inputs, 3, 3)


def _shuffles_in_place(wiring: Wiring, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """A convolution's sub-pixels shuffled channels-last, where a shuffle moves whole rows of channels.

    The convolution's channels come sub-pixel first for it. onnxruntime's DepthToSpace goes value by value.
    """
    if node.op_type == "Conv" and _shuffle_after(wiring, node) is not None:
        order = wiring.constant(f"{node.output[0]}.order", _subpixels_first(wiring, node))
        moved = [f"{name}.moved" for name in node.input[1:]]
        nodes = [
            helper.make_node("Gather", [old, order], [new])
            for old, new in zip(node.input[1:], moved, strict=True)
        ]
        node.input[1:] = moved
        return [*nodes, node]
    conv = _conv_before(wiring, node) if _is_shuffle(node) else None
    if conv is None or f"{conv.output[0]}.order" not in wiring.stored:
        return None
    _, channels, height, width = wiring.shapes[node.output[0]]
    return _channels_last(wiring, node, (height // 2, width // 2, channels))


def _channels_last(wiring: Wiring, node: onnx.NodeProto, sides: tuple[int, int, int]) -> list[onnx.NodeProto]:
    height, width, channels = sides
    name = node.output[0]
    apart = wiring.constant(f"{name}.apart", np.array([0, height, width, 2, 2, channels]))
    joined = wiring.constant(f"{name}.joined", np.array([0, 2 * height, 2 * width, channels]))
    t = [f"{name}.{number}" for number in range(4)]
    return [
        helper.make_node("Transpose", [node.input[0]], [t[0]], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [t[0], apart], [t[1]]),
        helper.make_node("Transpose", [t[1]], [t[2]], perm=[0, 1, 3, 2, 4, 5]),
        helper.make_node("Reshape", [t[2], joined], [t[3]]),
        helper.make_node("Transpose", [t[3]], [name], perm=[0, 3, 1, 2]),
    ]


def _subpixels_first(wiring: Wiring, conv: onnx.NodeProto) -> npt.NDArray[np.int32]:
    count = len(wiring.value(conv.input[1]))
    order: npt.NDArray[np.int32] = np.arange(count, dtype=np.int32).reshape(-1, 4).T.reshape(-1)
    return np.ascontiguousarray(order)


def _is_shuffle(node: onnx.NodeProto | None) -> bool:
    if node is None or node.op_type != "DepthToSpace":
        return False
    return (attribute(node, "mode"), attribute(node, "blocksize")) == (b"CRD", 2)


def _shuffle_after(wiring: Wiring, conv: onnx.NodeProto) -> onnx.NodeProto | None:
    relu = wiring.only_user(conv.output[0])
    after = wiring.only_user(relu.output[0]) if relu is not None and relu.op_type == "Relu" else None
    stored = len(conv.input) == 3 and not conv.input[1].endswith(".sub")
    return after if _is_shuffle(after) and stored else None


def _conv_before(wiring: Wiring, shuffle: onnx.NodeProto) -> onnx.NodeProto | None:
    relu = wiring.maker.get(shuffle.input[0])
    conv = wiring.maker.get(relu.input[0]) if relu is not None and relu.op_type == "Relu" else None
    return conv if conv is not None and conv.op_type == "Conv" else None
