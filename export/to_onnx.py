"""A torch module to the bytes of an ONNX file: dynamic batch, fixed opset, weights stored small."""

from __future__ import annotations

import dataclasses
import json
import logging
import warnings

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from export.graphs import DecoderGraph, EncoderGraph
from export.storage import store
from models.errors import TrainingError
from models.from_bundle import CONFIG_KEY, CONSTANTS_KEY, TENSORS_KEY
from models.stored import SMALL

OPSET = 20


def to_onnx(module: EncoderGraph | DecoderGraph, example: Tensor, input_name: str, output_name: str) -> bytes:
    """The graph of `module` for a dynamic batch; `example` (N, ...) gives the other sizes and the type.

    Weights are stored small (export/storage.py), and the file tells how to build the network again from
    them (models/from_bundle.py). `parity` measures what the rounding costs.
    """
    model = _stripped(_exported(module, example, input_name, output_name))
    state = {name: tensor.detach().cpu().numpy() for name, tensor in module.network.state_dict().items()}
    tensors, constants = _places(model, state)
    store(model, set(tensors.values()))
    helper.set_model_props(
        model,
        {
            CONFIG_KEY: json.dumps(dataclasses.asdict(module.network.config)),
            TENSORS_KEY: json.dumps(tensors),
            CONSTANTS_KEY: json.dumps(constants),
        },
    )
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _exported(module: nn.Module, example: Tensor, input_name: str, output_name: str) -> onnx.ModelProto:
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
    return program.model_proto


def _places(
    model: onnx.ModelProto, state: dict[str, npt.NDArray[np.generic]]
) -> tuple[dict[str, str], dict[str, object]]:
    """Where each tensor of the network's state is: its name in the graph, or its shape and values.

    The optimiser keeps one of two equal tensors and folds buffers away, so a name alone is no proof.
    """
    graph = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    tensors: dict[str, str] = {}
    constants: dict[str, object] = {}
    for key, values in state.items():
        candidates = [f"network.{key}", *sorted(graph)]
        found = [name for name in candidates if name in graph and _same(graph[name], values)]
        if found:
            tensors[key] = found[0]
        elif values.size < SMALL:
            constants[key] = {"shape": list(values.shape), "values": values.ravel().tolist()}
        else:
            raise TrainingError(f"the graph does not hold the network's {key} as it is")
    return tensors, constants


def _same(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


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
