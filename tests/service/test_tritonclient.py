"""NVIDIA's own client of the Open Inference Protocol against the service as a process."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.server import HOST, serving
from tests.service.tensors import crops

triton: Any = pytest.importorskip("tritonclient.http", reason="tritonclient is in the dev extra")
Refused: type[Exception] = importlib.import_module("tritonclient.utils").InferenceServerException


@pytest.fixture(scope="module")
def client(identity_bundle: Path) -> Iterator[Any]:
    with serving(identity_bundle, "cpu") as server:
        client = triton.InferenceServerClient(f"{HOST}:{server.port}", concurrency=4)
        yield client
        client.close()


def given(count: int = 3, binary: bool = True) -> Any:
    pixels = crops(count)
    tensor = triton.InferInput("crops", pixels.shape, "UINT8")
    return tensor.set_data_from_numpy(pixels, binary_data=binary)


def test_it_finds_out_what_there_is(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("echo") and not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "faceswapd"
    told = client.get_model_metadata("echo")
    assert client.is_model_ready("echo", told["versions"][0])
    assert told["inputs"][0]["shape"] == [-1, 64, 64, 3]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
def test_tensors_go_there_and_back(client: Any, binary: bool, packed: str | None) -> None:
    wanted = [triton.InferRequestedOutput("faces", binary_data=binary)]
    answer = client.infer(
        "negative",
        [given(binary=binary)],
        outputs=wanted,
        request_id="seven",
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )
    assert np.array_equal(answer.as_numpy("faces"), 255 - crops(3))
    assert answer.get_response()["id"] == "seven"
    assert answer.as_numpy("masks") is None


def test_all_outputs_and_a_named_version(client: Any) -> None:
    version = client.get_model_metadata("cutout")["versions"][0]
    answer = client.infer("cutout", [given()], model_version=version)
    assert np.array_equal(answer.as_numpy("faces"), crops(3))
    assert answer.as_numpy("masks").shape == (3, 64, 64)


def test_many_at_once(client: Any) -> None:
    waiting = [client.async_infer("echo", [given(count)]) for count in range(1, 9)]
    for count, answer in zip(range(1, 9), waiting, strict=True):
        assert np.array_equal(answer.get_result().as_numpy("faces"), crops(count))


def test_refusals_are_its_own_exceptions(client: Any) -> None:
    floats = triton.InferInput("crops", [1, 64, 64, 3], "FP32")
    floats.set_data_from_numpy(crops(1).astype(np.float32))
    with pytest.raises(Refused, match="UINT8") as refused:
        client.infer("echo", [floats])
    assert refused.value.status() == "400"  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="no identity 'nobody'"):
        client.infer("nobody", [given()])
    with pytest.raises(Refused, match="nothing at this address"):
        client.get_inference_statistics("echo")
