"""Weights that a graph does not repeat: they lie, as ONNX external data, inside another graph's file."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from export.wiring import copy_of

WORTH = 512
"""Bytes; naming a place takes about a hundred."""


def borrowing(model: onnx.ModelProto, lender: bytes, name: str) -> bytes:
    """The file of `model` without the tensors that `lender` holds, which is called `name` and lies beside it.

    The very bytes of a tensor are looked for, so any place that has them is a right one.
    """
    model = copy_of(model)
    for tensor in model.graph.initializer:
        place = lender.find(tensor.raw_data) if len(tensor.raw_data) >= WORTH else -1
        if place >= 0:
            _point(tensor, name, place)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _point(tensor: TensorProto, name: str, place: int) -> None:
    facts = {"location": name, "offset": str(place), "length": str(len(tensor.raw_data))}
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in facts.items():
        tensor.external_data.add(key=key, value=value)
