"""POST /swap with several targets: one photo, one encoding, a result for each."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import httpx
import numpy as np
import pytest

from faceswap.errors import BundleError
from faceswap.faces import Crop, Image, Pixels
from faceswap.images import DigitalSource
from service.errors import DeadlineError
from service.schemas import MAX_TARGETS, CropMode, Output, SwapQuery, SwapResults
from tests.service.fakes import FakeSwapper, Gate, make_app, nothing, opened, parts_of, photo, serving, until
from tests.service.test_problems import SECRET, expect

pytestmark = pytest.mark.anyio


async def ask(
    client: httpx.AsyncClient,
    query: str,
    data: bytes | None = None,
    accept: str = "*/*",
    request_id: str = "",
) -> httpx.Response:
    headers = {"Content-Type": "image/png", "Accept": accept, "X-Request-ID": request_id}
    return await client.post(f"/swap?{query}", content=photo() if data is None else data, headers=headers)


def results(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    SwapResults.model_validate_json(answer.content)
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def picture(result: dict[str, Any]) -> Pixels:
    assert result["status"] == 200, result
    return np.asarray(opened(base64.b64decode(result["data"])).convert("RGB"))


@pytest.mark.parametrize(
    "query", ["target=echo,negative", "target=echo&target=negative", "target=echo, negative,"]
)
async def test_each_target_gets_its_face_of_one_encoding(query: str) -> None:
    swapper = FakeSwapper()
    encoded: list[int] = []
    swapper.on_encode = lambda crops: encoded.append(len(crops))
    async with serving(make_app(swapper)) as client:
        answer = await ask(client, f"{query}&crop=none")
    echo, negative = results(answer)
    posted = np.asarray(opened(photo()))
    assert (echo["target"], negative["target"]) == ("echo", "negative")
    assert np.array_equal(picture(echo), posted)
    assert np.array_equal(picture(negative), 255 - posted)
    assert encoded == [1]
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["summary"] | {"seconds": 0} == {"done": 2, "failed": 0, "seconds": 0}


async def test_a_result_tells_what_the_headers_tell_of_one() -> None:
    async with serving(make_app()) as client:
        answer = await ask(client, "target=echo,negative&output=photo&format=webp", photo((200, 100)))
    for result in results(answer):
        assert result["media_type"] == "image/webp"
        assert result["face"] == {"box": [0, 0, 0.5, 1], "score": 0.97}
        assert result["digital_source_type"] == DigitalSource.COMPOSITE.value
        assert DigitalSource.COMPOSITE.value.encode() in base64.b64decode(result["data"])
        assert list(result["milliseconds"]) == [
            "read", "detect", "queue", "encode", "decode", "paste", "write"
        ]  # fmt: skip
        assert picture(result).shape == (100, 200, 3)


async def test_a_name_given_twice_is_one_target_and_one_target_is_a_picture() -> None:
    async with serving(make_app()) as client:
        answer = await ask(client, "target=echo,echo&target=echo", accept="application/json")
    assert answer.headers["content-type"] == "image/png"


async def test_lines_come_one_by_one() -> None:
    async with serving(make_app()) as client:
        answer = await ask(client, "target=echo,negative", accept="text/html, application/x-ndjson;q=0.9")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [line.get("target") for line in lines] == ["echo", "negative", None]
    assert lines[2]["summary"]["done"] == 2


async def test_a_zip_file_holds_the_pictures_and_the_list() -> None:
    async with serving(make_app()) as client:
        answer = await ask(client, "target=echo,negative&crop=none", accept="application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        assert file.namelist() == ["000-echo.png", "000-negative.png", "results.json"]
        assert opened(file.read("000-echo.png")).tobytes() == opened(photo()).tobytes()
        listed = json.loads(file.read("results.json"))
        assert file.testzip() is None
    assert [row["target"] for row in listed["results"]] == ["echo", "negative"]
    assert "data" not in listed["results"][0]
    assert listed["summary"]["done"] == 2


@pytest.mark.parametrize(("output", "source"), [("face", "TRAINED"), ("photo", "COMPOSITE")])
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "application/zip"])
async def test_every_picture_of_every_container_is_marked(accept: str, output: str, source: str) -> None:
    async with serving(make_app()) as client:
        answer = await ask(client, f"target=echo,negative&output={output}", photo((200, 100)), accept)
    assert answer.headers["content-type"] == accept
    if accept == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
            pictures = [file.read(name) for name in file.namelist() if name.endswith(".png")]
    else:
        lines = answer.text.splitlines() if accept.endswith("ndjson") else [answer.text]
        told = [json.loads(line) for line in lines]
        listed = told[:2] if len(told) > 1 else told[0]["results"]
        pictures = [base64.b64decode(result["data"]) for result in listed]
    assert len(pictures) == 2
    mark = f"Iptc4xmpExt:DigitalSourceType>{DigitalSource[source].value}<".encode()
    assert all(mark in picture for picture in pictures)


class SlowAtFirst(FakeSwapper):
    """The first photo that a face is set into stays so until `gate` opens."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate
        self.first = True

    @contextmanager
    def pasted(self, photo: Image, crop: Crop, face: Pixels, mask: Pixels | None = None) -> Iterator[Image]:
        with super().pasted(photo, crop, face, mask) as image:
            first, self.first = self.first, False
            if first:
                self.gate()
            yield image


async def test_a_target_that_is_late_leaves_nothing_in_the_photo_of_the_next() -> None:
    gate = Gate()
    app = make_app(SlowAtFirst(gate), image_threads=2, deadline_ms=400)
    data = photo((200, 100))
    query = SwapQuery(target=["echo", "negative"], output=Output.PHOTO, crop=CropMode.AUTO)
    async with serving(make_app()) as client:
        alone = await ask(client, "target=negative&output=photo", data)
    async with serving(app), aclosing(parts_of(app).pipeline.swap_each(data, query)) as results:
        late = await anext(results)
        assert isinstance(late.outcome, DeadlineError)
        asyncio.get_running_loop().call_later(0.1, gate.open)
        right = await anext(results)
        assert not isinstance(right.outcome, Exception)
        assert np.array_equal(np.asarray(opened(right.outcome.data)), np.asarray(opened(alone.content)))


async def test_an_unknown_name_among_them_is_refused_before_any_work() -> None:
    swapper = FakeSwapper()
    swapper.on_find = lambda: pytest.fail("there was work")
    async with serving(make_app(swapper)) as client:
        problem = expect(await ask(client, "target=echo,nobody"), "unknown-identity", "'nobody'")
    assert problem["known"] == ["echo", "negative"]


@pytest.mark.parametrize("query", ["target=", "target=,", f"target={','.join(f'a{n}' for n in range(33))}"])
async def test_no_name_or_too_many(query: str) -> None:
    assert MAX_TARGETS == 32
    async with serving(make_app()) as client:
        expect(await ask(client, query), "invalid-parameter", "'target'", "GET /identities")


async def test_what_is_wrong_with_the_photo_is_the_answer() -> None:
    async with serving(make_app()) as client:
        expect(await ask(client, "target=echo,negative", photo(grey=0)), "no-face")
        expect(await ask(client, "target=echo,negative", b"x"), "not-an-image")
        expect(await ask(client, "target=echo,negative", b""), "no-image")
        assert (await client.get("/health")).json()["photos"] == 0


async def test_one_that_fails_does_not_fail_the_others() -> None:
    def fail(_latents: object, identity: str) -> None:
        if identity == "echo":
            raise BundleError(SECRET)

    swapper = FakeSwapper()
    swapper.on_decode = fail
    async with serving(make_app(swapper)) as client:
        answer = await ask(client, "target=echo,negative", request_id="me")
    echo, negative = results(answer)
    assert (echo["status"], echo["problem"]["type"]) == (500, "/problems/bundle-unusable")
    assert echo["problem"]["request_id"] == "me"
    assert negative["status"] == 200
    assert answer.json()["summary"]["failed"] == 1
    assert SECRET not in answer.text


async def test_every_target_takes_a_place() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper, queue_images=3)
    async with serving(app) as client:
        first = asyncio.create_task(ask(client, "target=echo,negative"))
        await gate.reached()
        assert parts_of(app).admission.taken == 2
        expect(await ask(client, "target=echo,negative"), "queue-full")
        one = asyncio.create_task(ask(client, "target=echo"))
        await until(lambda: parts_of(app).admission.taken == 3)
        gate.open()
        assert [(await task).status_code for task in (first, one)] == [200, 200]
        assert parts_of(app).admission.taken == 0


async def test_an_empty_service_takes_more_targets_than_it_has_places() -> None:
    async with serving(make_app(queue_images=1)) as client:
        assert len(results(await ask(client, "target=echo,negative"))) == 2


async def test_the_deadline_holds_for_each() -> None:
    gate = Gate()
    swapper = FakeSwapper()
    swapper.on_decode = lambda _latents, identity: gate() if identity == "negative" else nothing()
    app = make_app(swapper, deadline_ms=1500)
    async with serving(app) as client:
        echo, negative = results(await ask(client, "target=echo,negative"))
        assert parts_of(app).admission.taken == 0
        gate.open()
    assert (echo["status"], negative["status"]) == (200, 504)
