"""What a swap costs: multiply-accumulates of one face, and bytes of a bundle."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import shape_inference
from torch.utils.flop_counter import FlopCounterMode

from faceswap.bundle import MANIFEST_NAME
from faceswap.faces import CROP_SIZE
from models.renderers import BundleRenderer, CheckpointRenderer, Renderer

_PRODUCTS = {"Conv", "ConvInteger", "QLinearConv", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"}


def cost_of(renderer: Renderer) -> dict[str, Any]:
    """`bytes` of a bundle, `encoder_gmac`, `decoder_gmac` (the dearest), `swap_gmac`; {} for the peer."""
    if isinstance(renderer, BundleRenderer):
        return _of_bundle(renderer)
    if isinstance(renderer, CheckpointRenderer):
        return _of_checkpoint(renderer)
    return {}


def _of_bundle(renderer: BundleRenderer) -> dict[str, Any]:
    bundle = renderer.swapper.bundle
    encoder = graph_macs(bundle.folder / bundle.manifest.encoder.graph.path)
    decoders = [graph_macs(bundle.folder / i.decoder.path) for i in bundle.manifest.identities]
    size = sum(file.bytes for file in bundle.manifest.files)
    return {"bytes": size + (bundle.folder / MANIFEST_NAME).stat().st_size} | _sum(encoder, max(decoders))


def _of_checkpoint(renderer: CheckpointRenderer) -> dict[str, Any]:
    picture = torch.full((1, 3, CROP_SIZE, CROP_SIZE), 128.0, device=renderer.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        latent = renderer.encoder(picture)
    encoder, decoders = counter.get_total_flops() // 2, [0]
    for decoder in renderer.decoders.values():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            decoder(latent)
        decoders.append(counter.get_total_flops() // 2)
    return _sum(encoder, max(decoders))


def _sum(encoder: int, decoder: int) -> dict[str, float]:
    figures = {"encoder_gmac": encoder, "decoder_gmac": decoder, "swap_gmac": encoder + decoder}
    return {name: round(macs / 1e9, 4) for name, macs in figures.items()}


def graph_macs(path: Path) -> int:
    """Multiply-accumulates of an ONNX graph for a batch of one: convolutions and matrix products."""
    model = onnx.load(path)
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shapes[value.name] = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    return sum(_node_macs(node, shapes) for node in graph.node if node.op_type in _PRODUCTS)


def _node_macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Output numbers times the length of the sum behind each."""
    quantised = node.op_type.startswith("QLinear")
    inputs, weight = shapes[node.input[0]], shapes[node.input[3 if quantised else 1]]
    output = math.prod(shapes[node.output[0]])
    if "Conv" in node.op_type:
        return output * math.prod(weight[1:])  # (outputs, inputs / groups, h, w)
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return output * (inputs[0] if transposed else inputs[-1])
