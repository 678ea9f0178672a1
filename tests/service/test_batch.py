"""POST /swap/batch: many photos, many targets, and a result for every pair."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from starlette.types import Message

from tests.service.fakes import FakeSwapper, Gate, make_app, opened, parts_of, photo, post, serving, until
from tests.service.test_problems import expect
from tests.service.test_several import picture, results

pytestmark = pytest.mark.anyio


async def batch(
    client: httpx.AsyncClient, photos: list[bytes], target: str = "echo", accept: str = "*/*", **query: Any
) -> httpx.Response:
    files = [("image", (f"{n}.png", data, "image/png")) for n, data in enumerate(photos)]
    return await client.post(
        "/swap/batch", params={"target": target, **query}, files=files, headers={"Accept": accept}
    )


def pairs(found: list[dict[str, Any]]) -> dict[tuple[int, str], dict[str, Any]]:
    return {(result["image"], result["target"]): result for result in found}


async def test_every_photo_with_every_target() -> None:
    greys = [20, 60, 100, 140, 180]
    async with serving(make_app(workers=2)) as client:
        answer = await batch(client, [photo(grey=grey) for grey in greys], "echo,negative", crop="none")
    found = pairs(results(answer))
    assert len(found) == 10
    for number, grey in enumerate(greys):
        assert set(picture(found[number, "echo"]).ravel()) == {grey}
        assert set(picture(found[number, "negative"]).ravel()) == {255 - grey}
    assert answer.json()["summary"]["done"] == 10


async def test_one_photo_and_one_target_are_a_batch_too() -> None:
    async with serving(make_app()) as client:
        raw = await client.post(
            "/swap/batch?target=echo", content=photo(), headers={"Content-Type": "image/png"}
        )
        assert len(results(raw)) == len(results(await batch(client, [photo()]))) == 1


async def test_bad_photos_fail_alone() -> None:
    large = photo((300, 300), "PNG", compress_level=0)
    given = [photo(), b"", photo(grey=0), b"no picture", photo((90, 90), "JPEG")[:400], large, photo(grey=99)]
    async with serving(make_app(max_body_bytes=100_000)) as client:
        answer = await batch(client, given)
    found = pairs(results(answer))
    statuses = [found[number, "echo"]["status"] for number in range(len(given))]
    assert statuses == [200, 415, 422, 415, 400, 413, 200]
    assert found[2, "echo"]["problem"]["type"] == "/problems/no-face"
    summary = answer.json()["summary"]
    assert (summary["done"], summary["failed"]) == (2, 5)


async def test_requests_that_are_wrong_as_a_whole() -> None:
    async with serving(make_app(batch_photos=2, batch_bytes=50_000)) as client:
        expect(await batch(client, [photo()] * 3), "bad-multipart", "more than 2 files")
        expect(await batch(client, [b""]), "no-image", "empty")
        expect(await client.post("/swap/batch?target=echo", files={"photo": photo()}), "no-image", "'photo'")
        expect(await batch(client, [b"x" * 60_000]), "body-too-large", "50000")
        expect(await batch(client, [photo()], "echo,nobody"), "unknown-identity")
        expect(await batch(client, [photo()], sort="x"), "invalid-parameter", "'sort'")
        assert (await client.get("/health")).json()["photos"] == 0


async def test_lines_come_as_photos_are_done() -> None:
    gate = Gate()
    swapper = FakeSwapper()
    swapper.on_encode = lambda crops: gate() if crops.mean() < 50 else None
    app = make_app(swapper, workers=2, max_batch=1, batch_share=2)
    seen: list[dict[str, Any]] = []
    async with serving(app):

        async def send(message: Message) -> None:
            lines = message.get("body", b"").splitlines()
            seen.extend(json.loads(line) for line in lines)
            if len(seen) == 2:
                gate.open()

        await call(app, [photo(grey=20), photo(grey=99), photo(grey=120)], send)
    assert [line.get("image") for line in seen] == [1, 2, 0, None]
    assert seen[-1]["summary"]["done"] == 3


async def call(app: FastAPI, photos: list[bytes], send: Any, leave: asyncio.Event | None = None) -> None:
    """A batch over plain ASGI, as httpx gives streamed answers in one piece; may `leave` early."""
    files = [("image", (f"{n}.png", data, "image/png")) for n, data in enumerate(photos)]
    request = httpx.Request("POST", "http://service/swap/batch?target=echo", files=files)
    arriving: list[Message] = [{"type": "http.request", "body": request.read(), "more_body": False}]

    async def receive() -> Message:
        if arriving:
            return arriving.pop()
        await (leave or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/swap/batch",
        "raw_path": b"/swap/batch",
        "root_path": "",
        "query_string": b"target=echo",
        "headers": [
            *((name.lower().encode(), value.encode()) for name, value in request.headers.items()),
            (b"accept", b"application/x-ndjson"),
        ],
    }
    await app(scope, receive, send)


async def test_a_client_that_leaves_stops_the_rest() -> None:
    swapper, gate = FakeSwapper(), Gate()
    looked: list[int] = []
    swapper.on_find = lambda: looked.append(1)
    swapper.on_encode = gate
    app = make_app(swapper, batch_share=2)
    leave = asyncio.Event()

    async def send(_: Message) -> None:
        pass

    async with serving(app) as client:
        job = asyncio.create_task(call(app, [photo()] * 20, send, leave))
        await gate.reached()
        await until(lambda: len(looked) == 2)
        leave.set()
        await job
        assert (await client.get("/health")).json()["photos"] == 0
        gate.open()
        await asyncio.sleep(0.05)
        assert len(looked) == 2
        assert (await post(client)).status_code == 200


async def test_a_client_that_takes_nothing_is_given_up() -> None:
    app = make_app(body_timeout_s=0.1)

    async def send(_: Message) -> None:
        await asyncio.sleep(20)

    async with serving(app):
        await asyncio.wait_for(call(app, [photo()] * 3, send), 10)
        assert parts_of(app).admission.taken == 0


async def test_few_photos_of_all_batches_are_inside_at_once_and_single_swaps_pass() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper, batch_share=2, queue_images=6)
    async with serving(app) as client:
        first = asyncio.create_task(batch(client, [photo()] * 8))
        second = asyncio.create_task(batch(client, [photo()] * 8))
        await gate.reached()
        await until(lambda: parts_of(app).admission.taken == 4)  # two requests, two of their photos
        await asyncio.sleep(0.05)
        assert parts_of(app).admission.taken == 4
        singles = [asyncio.create_task(post(client)) for _ in range(2)]
        await until(lambda: parts_of(app).admission.taken == 6)
        expect(await post(client), "queue-full")
        gate.open()
        assert [(await single).status_code for single in singles] == [200, 200]
        for answer in (await first, await second):
            assert answer.json()["summary"]["done"] == 8


async def test_a_batch_waits_for_places_instead_of_failing() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper, batch_share=4, queue_images=4)
    async with serving(app) as client:
        single = asyncio.create_task(post(client))
        await gate.reached()
        whole = asyncio.create_task(batch(client, [photo()] * 6, "echo,negative"))
        await until(lambda: parts_of(app).admission.taken == 4)
        await asyncio.sleep(0.05)
        assert parts_of(app).admission.taken == 4
        gate.open()
        assert (await single).status_code == 200
        assert (await whole).json()["summary"]["done"] == 12
        assert parts_of(app).admission.taken == 0


async def test_a_batch_of_many_targets_never_stands_still() -> None:
    async with serving(make_app(queue_images=1)) as client:
        answer = await batch(client, [photo()] * 3, "echo,negative")
    assert answer.json()["summary"]["done"] == 6


async def test_photos_are_pasted_into() -> None:
    given = [photo((200, 100), "JPEG"), photo((90, 120), "JPEG")]
    async with serving(make_app()) as client:
        answer = await batch(client, given, output="photo", format="jpeg")
    found = pairs(results(answer))
    for number, data in enumerate(given):
        pasted = base64.b64decode(found[number, "echo"]["data"])
        assert opened(pasted).size == opened(data).size
        assert np.asarray(opened(pasted)).std() > 10
