"""Bodies of the Open Inference Protocol, written by hand."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

Crops = npt.NDArray[np.uint8]
JSON_BYTES = "Inference-Header-Content-Length"


def crops(count: int = 2, seed: int = 0) -> Crops:
    """(N, 64, 64, 3)"""
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), np.uint8)


def tensor(pixels: Crops, **changes: Any) -> dict[str, Any]:
    whole = {"name": "crops", "shape": list(pixels.shape), "datatype": "UINT8"}
    return whole | changes


def as_json(pixels: Crops, nested: bool = False, **request: Any) -> bytes:
    data = pixels.tolist() if nested else pixels.ravel().tolist()
    return json.dumps({"inputs": [tensor(pixels, data=data)], **request}).encode()


def as_bytes(pixels: Crops, **request: Any) -> tuple[bytes, dict[str, str]]:
    """The body and its headers."""
    size = {"binary_data_size": pixels.nbytes}
    whole = {"inputs": [tensor(pixels, parameters=size)], "parameters": {"binary_data_output": True}}
    head = json.dumps(whole | request).encode()
    return head + pixels.tobytes(), {JSON_BYTES: str(len(head))}


def tensors(answer: httpx.Response) -> dict[str, Crops]:
    """The outputs by name, from JSON or from the bytes behind it."""
    assert answer.status_code == 200, answer.text
    split = int(answer.headers.get(JSON_BYTES, len(answer.content)))
    told, rest = json.loads(answer.content[:split]), answer.content[split:]
    found = {}
    for output in told["outputs"]:
        assert output["datatype"] == "UINT8"
        if "data" in output:
            flat = np.array(output["data"], np.uint8)
        else:
            size = output["parameters"]["binary_data_size"]
            flat, rest = np.frombuffer(rest[:size], np.uint8), rest[size:]
        found[output["name"]] = flat.reshape(output["shape"])
    assert not rest
    return found
