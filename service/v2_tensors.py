"""Tensors of the Open Inference Protocol: bytes -> crops, and faces -> bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from faceswap.faces import Pixels, Swapped
from service.errors import BadTensorError
from service.v2_schemas import (
    CROPS,
    FACES,
    MASKS,
    SHAPES,
    UINT8,
    InferRequest,
    InferResponse,
    InputTensor,
    OutputTensor,
)

MAX_JSON_BYTES = 4 * 2**20
"""68 crops written as numbers. Parsed, JSON may take twenty times its bytes; binary data takes none."""
_FACE_BYTES = 64 * 64 * 3


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a request wants: faces for `crops` (N, 64, 64, 3); `outputs` says which are sent as bytes."""

    id: str | None
    crops: Pixels
    outputs: dict[str, bool]


def read_request(body: bytes, json_bytes: int | None, most: int) -> Asked:
    """`json_bytes` of JSON, and the tensor's bytes behind it; None: all is JSON.

    BadTensorError for anything else than 1 to `most` crops.
    """
    split = len(body) if json_bytes is None else json_bytes
    if split > len(body):
        raise BadTensorError(f"Inference-Header-Content-Length is {split}, the body has {len(body)} bytes")
    if split > MAX_JSON_BYTES:
        raise BadTensorError(f"more than {MAX_JSON_BYTES} bytes of JSON; send the tensor as binary data")
    request = _parsed(body[:split])
    (tensor,) = request.inputs
    count = _count(tensor, most)
    crops = _pixels(tensor, count, memoryview(body)[split:])
    return Asked(request.id, crops, _outputs(request))


def _parsed(text: bytes) -> InferRequest:
    try:
        return InferRequest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(step)[:64] for step in first["loc"]) or "the JSON"
        raise BadTensorError(f"{place}: {first['msg'][:200]}") from None


def _count(tensor: InputTensor, most: int) -> int:
    """How many crops there are; everything about the tensor but its values is checked."""
    if tensor.name != CROPS:
        raise BadTensorError(f"the one input is called {CROPS!r}: aligned {UINT8} faces (N, 64, 64, 3), RGB")
    if tensor.datatype != UINT8:
        raise BadTensorError(
            f"{CROPS!r} is taken as {UINT8}, 0 to 255; convert other datatypes (FP32 of 0 to 1: times 255)"
        )
    count, *shape = tensor.shape or [0]
    if shape != SHAPES[CROPS][1:] or count < 1:
        raise BadTensorError(f"{CROPS!r} must have the shape (N, 64, 64, 3): batch, height, width, RGB")
    if count > most:
        raise BadTensorError(f"{CROPS!r} has {count} faces, this service takes {most} in one request")
    if tensor.parameters.shared_memory_region is not None:
        raise BadTensorError("this service has no shared memory; send the tensor's data")
    return count


def _pixels(tensor: InputTensor, count: int, behind: memoryview) -> Pixels:
    size = tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise BadTensorError(f"{CROPS!r} needs either 'data' or 'binary_data_size'")
    flat = bytes(behind) if tensor.data is None else _flat(tensor.data, [count, *SHAPES[CROPS][1:]])
    if tensor.data is not None and len(behind):
        raise BadTensorError("there are bytes behind the JSON, but the tensor's data is inside it")
    if size is not None and size != len(flat):
        raise BadTensorError(f"binary_data_size is {size}, {len(flat)} bytes follow the JSON")
    if len(flat) != count * _FACE_BYTES:
        raise BadTensorError(f"{CROPS!r} of {count} faces has {count * _FACE_BYTES} values, {len(flat)} came")
    return np.frombuffer(flat, np.uint8).reshape(count, *SHAPES[CROPS][1:])  # (N, 64, 64, 3)


def _flat(data: list[Any], shape: Sequence[int]) -> bytes:
    """The values of a flat list, or of one that is nested as `shape` says."""
    try:
        return bytes(data) if not data or not isinstance(data[0], list) else _nested(data, shape)
    except (TypeError, ValueError):
        raise BadTensorError(
            f"the data of {CROPS!r} must be whole numbers from 0 to 255, flat or nested as the shape says"
        ) from None


def _nested(data: list[Any], shape: Sequence[int]) -> bytes:
    if not isinstance(data, list) or len(data) != shape[0]:
        raise ValueError
    return bytes(data) if len(shape) == 1 else b"".join(_nested(row, shape[1:]) for row in data)


def _outputs(request: InferRequest) -> dict[str, bool]:
    """By name, in the order asked for: as bytes?"""
    everywhere = request.parameters.binary_data_output
    if request.outputs is None:
        return dict.fromkeys((FACES, MASKS), everywhere)
    wishes = {wish.name: wish.parameters.binary_data for wish in request.outputs}
    if not wishes.keys() <= {FACES, MASKS}:
        raise BadTensorError(f"the outputs are {FACES!r} and {MASKS!r}")
    return {name: everywhere if binary is None else binary for name, binary in wishes.items()}


def write_response(
    asked: Asked, faces: Sequence[Swapped], model: str, version: str, source: str
) -> tuple[bytes, int | None]:
    """The body, and how many of its bytes are JSON where others follow."""
    arrays = {FACES: [face.pixels for face in faces], MASKS: [_mask(face) for face in faces]}
    tail: list[bytes] = []
    outputs = [_output(name, np.stack(arrays[name]), binary, tail) for name, binary in asked.outputs.items()]
    answer = InferResponse(
        model_name=model,
        model_version=version,
        id=asked.id,
        parameters={"digital_source_type": source},
        outputs=outputs,
    )
    text = answer.model_dump_json(exclude_none=True).encode()
    return b"".join([text, *tail]), len(text) if tail else None


def _output(name: str, array: Pixels, binary: bool, tail: list[bytes]) -> OutputTensor:
    shape = list(array.shape)
    if not binary:
        return OutputTensor(name=name, shape=shape, data=array.ravel().tolist())
    tail.append(array.tobytes())
    return OutputTensor(name=name, shape=shape, parameters={"binary_data_size": array.nbytes})


def _mask(face: Swapped) -> Pixels:
    """A decoder without a mask can be trusted everywhere."""
    return np.full(face.pixels.shape[:2], 255, np.uint8) if face.mask is None else face.mask
