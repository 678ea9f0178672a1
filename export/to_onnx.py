"""A torch module to the bytes of an ONNX file: dynamic batch, fixed opset, weights stored small."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from models.errors import TrainingError

OPSET = 20
SMALL = 1024
"""Initializers below that many values stay float32: biases are cheap, and rounding them is not worth it."""


def to_onnx(module: nn.Module, example: Tensor, input_name: str, output_name: str) -> bytes:
    """The graph of `module` for a dynamic batch; `example` (N, ...) gives the other sizes and the type.

    Large weights are stored as float16 with a Cast that onnxruntime folds away on loading: the
    file halves, the arithmetic stays float32. `parity` measures what the rounding costs.
    """
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):  # they tell of every node that they touch
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations, seen at each export
        program = torch.onnx.export(
            module.eval(),
            (example,),
            input_names=[input_name],
            output_names=[output_name],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise TrainingError("torch.onnx.export returned nothing")
    program.optimize()
    model = _stripped(program.model_proto)
    _store_half(model)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without names of source files and stack traces: they are nobody's business and change the hash."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    model.producer_name, model.producer_version = "faceswapd", ""  # torch's holds a build tag
    return model


def _store_half(model: onnx.ModelProto) -> None:
    """Replaces large float32 initializers by float16 ones and a Cast each."""
    casts = []
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < SMALL:
            continue
        if not np.abs(values).max() < np.finfo(np.float16).max:
            raise TrainingError(f"{initializer.name} holds values that float16 cannot store")
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
