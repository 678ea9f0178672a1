"""The Open Inference Protocol below /v2: tensors in and out, and errors in its own form."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from faceswap import Swapper
from faceswap.errors import BundleError, DeviceError
from service.app import create_app
from service.errors import TABLE
from service.settings import Settings
from service.v2_tensors import MAX_JSON_BYTES
from tests.service.fakes import FakeSwapper, Gate, make_app, nothing, parts_of, post, serving, until
from tests.service.tensors import JSON_BYTES, Crops, as_bytes, as_json, crops, tensor, tensors

pytestmark = pytest.mark.anyio

SECRET = "the secret path /home/someone"
GREY: dict[str, Any] = tensor(crops(1), data=[0] * 64 * 64 * 3)


async def infer(client: httpx.AsyncClient, body: bytes, name: str = "echo", **headers: str) -> httpx.Response:
    return await client.post(f"/v2/models/{name}/infer", content=body, headers=headers)


def expect(answer: httpx.Response, slug: str, *words: str) -> None:
    """A v2 error object of the problem `slug` that says `words`."""
    row = next(kind for kind in TABLE.values() if kind.slug == slug)
    told = answer.json()
    assert (answer.status_code, told["type"]) == (row.status, f"/problems/{slug}"), told
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers.get("retry-after") == (row.retry_after_s and str(row.retry_after_s))
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["x-request-id"]
    for word in words:
        assert word in told["error"]


async def test_server_and_models_tell_about_themselves() -> None:
    async with serving(make_app()) as client:
        server = (await client.get("/v2")).json()
        told = (await client.get("/v2/models/echo")).json()
        version = told["versions"][0]
        same = (await client.get(f"/v2/models/echo/versions/{version}")).json()
        assert (await client.get(f"/v2/models/echo/versions/{version}/ready")).json()["ready"] is True
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/echo/ready"):
            assert (await client.get(path)).status_code == 200
        for path in ("/v2/models/nobody", "/v2/models/nobody/ready"):
            expect(await client.get(path), "unknown-identity", "echo, negative")
        expect(await client.get("/v2/models/echo/versions/1"), "unknown-version", version)
    assert (server["name"], server["extensions"]) == ("faceswapd", ["binary_tensor_data"])
    assert told == same
    assert told["inputs"] == [{"name": "crops", "datatype": "UINT8", "shape": [-1, 64, 64, 3]}]
    assert [output["name"] for output in told["outputs"]] == ["faces", "masks"]


@pytest.mark.parametrize("nested", [False, True])
async def test_numbers_in_numbers_out(nested: bool) -> None:
    given = crops(2)
    async with serving(make_app()) as client:
        answer = await infer(client, as_json(given, nested, id="seven"), "negative")
    told = answer.json()
    assert (told["id"], told["model_name"]) == ("seven", "negative")
    assert told["parameters"]["digital_source_type"] == answer.headers["x-digital-source-type"]
    found = tensors(answer)
    assert np.array_equal(found["faces"], 255 - given)
    assert np.array_equal(found["masks"], np.full((2, 64, 64), 255))


async def test_bytes_in_bytes_out() -> None:
    given = crops(5)
    body, headers = as_bytes(given)
    async with serving(make_app()) as client:
        answer = await infer(client, body, "negative", **headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert np.array_equal(tensors(answer)["faces"], 255 - given)


async def test_each_output_says_how_it_wants_to_be_sent() -> None:
    given = crops(1)
    masks = {"name": "masks", "parameters": {"binary_data": False}}
    body, headers = as_bytes(given, outputs=[masks, {"name": "faces"}])
    async with serving(make_app()) as client:
        answer = await infer(client, body, **headers)
        alone = await infer(client, as_json(given, outputs=[{"name": "faces"}]))
    told = json.loads(answer.content[: int(answer.headers[JSON_BYTES])])
    assert ["data" in output for output in told["outputs"]] == [True, False]
    assert np.array_equal(tensors(answer)["faces"], given)
    assert list(tensors(alone)) == ["faces"]


@pytest.mark.parametrize(
    ("name", "pack", "unpack"),
    [("gzip", gzip.compress, gzip.decompress), ("deflate", zlib.compress, zlib.decompress)],
)
async def test_packed_bodies(name: str, pack: Any, unpack: Any) -> None:
    given = crops(2)
    body, headers = as_bytes(given)
    async with serving(make_app()) as client:
        there = await infer(
            client, pack(body), **headers, **{"Content-Encoding": name.upper(), "Accept-Encoding": ""}
        )
        async with client.stream(
            "POST",
            "/v2/models/echo/infer",
            content=body,
            headers=headers | {"Accept-Encoding": f"br, {name};q=0.5"},
        ) as back:
            raw = b"".join([piece async for piece in back.aiter_raw()])
    assert np.array_equal(tensors(there)["faces"], given)
    assert (back.headers["content-encoding"], int(back.headers["content-length"])) == (name, len(raw))
    assert unpack(raw)[int(back.headers[JSON_BYTES]) :][: given.nbytes] == given.tobytes()


async def test_packed_bodies_are_bounded_when_unpacked() -> None:
    bomb = gzip.compress(bytes(5_000_000))
    gz = {"Content-Encoding": "gzip"}
    async with serving(make_app(max_body_bytes=1_000_000)) as client:
        expect(await infer(client, bomb, **gz), "body-too-large", "1000000 bytes")
        for broken in (b"", b"x", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"x"):
            expect(await infer(client, broken, **gz), "bad-encoding")
        expect(await infer(client, b"{}", **{"Content-Encoding": "br"}), "unsupported-encoding", "gzip")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"datatype": "FP32"}, ["UINT8", "times 255"]),
        ({"name": "faces"}, ["'crops'"]),
        ({"shape": [64, 64, 3]}, ["(N, 64, 64, 3)"]),
        ({"shape": [1, 3, 64, 64]}, ["(N, 64, 64, 3)"]),
        ({"shape": [0, 64, 64, 3]}, ["(N, 64, 64, 3)"]),
        ({"shape": [-1, 64, 64, 3]}, ["(N, 64, 64, 3)"]),
        ({"shape": []}, ["(N, 64, 64, 3)"]),
        ({"shape": [2, 64, 64, 3]}, ["24576 values"]),
        ({"shape": [257, 64, 64, 3]}, ["256 in one request"]),
        ({"shape": ["x"]}, ["inputs.0.shape.0"]),
        ({"data": [1.5] * 12288}, ["whole numbers"]),
        ({"data": [256] * 12288}, ["whole numbers"]),
        ({"data": ["SECRET"] * 12288}, ["whole numbers"]),
        ({"data": [[1], [1, 2]]}, ["nested as the shape says"]),
        ({"data": []}, ["0 came"]),
        ({"data": None}, ["either"]),
        ({"parameters": {"binary_data_size": 12288}}, ["either"]),
        ({"data": None, "parameters": {"binary_data_size": 12288}}, ["0 bytes follow"]),
        ({"parameters": {"shared_memory_region": "x"}}, ["shared memory"]),
    ],
)  # fmt: skip
async def test_tensors_that_are_none(changes: dict[str, Any], words: list[str]) -> None:
    async with serving(make_app()) as client:
        answer = await infer(client, json.dumps({"inputs": [GREY | changes]}).encode())
    expect(answer, "bad-tensor", *words)
    assert "SECRET" not in answer.text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["the JSON"]),
        (b"SECRET", ["the JSON"]),
        (b"[" * 100_000, ["the JSON"]),
        (b"{}", ["inputs"]),
        (json.dumps({"inputs": [GREY, GREY]}).encode(), ["inputs"]),
        (json.dumps({"inputs": [GREY], "outputs": [{"name": "SECRET"}]}).encode(), ["'faces' and 'masks'"]),
        (b'{"inputs": [' + b" " * MAX_JSON_BYTES, ["binary data"]),
    ],
)
async def test_requests_that_are_none(body: bytes, words: list[str]) -> None:
    async with serving(make_app()) as client:
        answer = await infer(client, body)
    expect(answer, "bad-tensor", *words)
    assert "SECRET" not in answer.text


async def test_the_length_of_the_json_must_fit() -> None:
    body, _ = as_bytes(crops(1))
    async with serving(make_app()) as client:
        expect(await infer(client, body, **{JSON_BYTES: "1000000"}), "bad-tensor", JSON_BYTES)
        expect(await infer(client, body, **{JSON_BYTES: "x"}), "invalid-parameter", "inference-header")
        expect(await infer(client, body, **{JSON_BYTES: "-1"}), "invalid-parameter")
        expect(
            await infer(client, as_json(crops(1)) + b"x", **{JSON_BYTES: str(len(as_json(crops(1))))}),
            "bad-tensor",
            "behind",
        )


async def test_faces_take_places_in_the_queue() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper, queue_images=4)
    async with serving(app) as client:
        first = asyncio.create_task(infer(client, as_json(crops(3))))
        await gate.reached()
        assert parts_of(app).admission.taken == 3
        expect(await infer(client, as_json(crops(2))), "queue-full")
        second = asyncio.create_task(post(client))
        await until(lambda: parts_of(app).admission.taken == 4)
        gate.open()
        assert [(await task).status_code for task in (first, second)] == [200, 200]
        await until(lambda: parts_of(app).admission.taken == 0)
        assert swapper.held == []


async def test_they_are_batched_with_each_other() -> None:
    sizes: list[int] = []
    swapper = FakeSwapper()
    swapper.on_encode = lambda given: sizes.append(len(given))
    async with serving(make_app(swapper, max_batch=8)) as client:
        given = crops(16)
        body, headers = as_bytes(given)
        assert np.array_equal(tensors(await infer(client, body, **headers))["faces"], given)
    assert max(sizes) == 8


async def test_deadline_draining_and_what_nobody_expected() -> None:
    def fail(error: type[Exception], *_: object) -> None:
        raise error(SECRET)

    swapper, gate = FakeSwapper(), Gate()
    app = make_app(swapper, deadline_ms=100, max_body_bytes=100_000)
    async with serving(app) as client:
        swapper.on_encode = gate
        expect(await infer(client, as_json(crops(1))), "deadline")
        gate.open()
        for error, slug in ((BundleError, "bundle-unusable"), (DeviceError, "device-failed")):
            swapper.on_encode = partial(fail, error)
            expect(await infer(client, as_json(crops(1))), slug)
        swapper.on_encode = partial(fail, ZeroDivisionError)
        answer = await infer(client, as_json(crops(1)))
        expect(answer, "internal-error")
        assert SECRET not in answer.text
        swapper.on_encode = nothing
        expect(await infer(client, bytes(100_001)), "body-too-large")
        expect(await client.get("/v2/models/echo/stats"), "not-found")
        expect(await client.get("/v2/models/echo/infer"), "method-not-allowed")
        parts_of(app).lifecycle.drain()
        expect(await infer(client, as_json(crops(1))), "draining")
        expect(await client.get("/v2/health/ready"), "draining")
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v22")).headers["content-type"] == "application/problem+json"


async def test_a_mask_comes_as_the_decoder_has_it(identity_bundle: Path) -> None:
    settings = Settings.model_validate({"bundle": identity_bundle, "workers": 1})
    given: Crops = crops(3)
    async with serving(create_app(settings, Swapper.open(identity_bundle, "cpu", 1))) as client:
        body, headers = as_bytes(given)
        found = tensors(await infer(client, body, "cutout", **headers))
    assert np.array_equal(found["faces"], given)
    assert np.array_equal(found["masks"][:, :, ::32], np.tile([255, 0], (3, 64, 1)))
