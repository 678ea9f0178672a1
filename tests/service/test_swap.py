"""POST /swap when all goes well."""

from __future__ import annotations

import re

import httpx
import numpy as np
import pytest
from starlette.types import Message

from faceswap.images import DigitalSource
from tests.service.fakes import FakeSwapper, make_app, opened, photo, post, serving

pytestmark = pytest.mark.anyio


async def test_echo_gives_the_posted_crop_back() -> None:
    async with serving(make_app()) as client:
        answer = await post(client, crop="none")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(opened(answer.content)), np.asarray(opened(photo())))


@pytest.mark.parametrize(
    "kind", ["image/png", "image/x-anything", "application/octet-stream", "IMAGE/PNG; a=b"]
)
async def test_a_raw_body_is_taken_as_the_photo(kind: str) -> None:
    async with serving(make_app()) as client:
        answer = await client.post(
            "/swap?target=negative&crop=none", content=photo(), headers={"Content-Type": kind}
        )
    assert answer.status_code == 200, answer.text
    assert np.array_equal(255 - np.asarray(opened(answer.content)), np.asarray(opened(photo())))


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("output", ["face", "photo"])
async def test_every_format_says_that_it_is_synthetic(format: str, output: str) -> None:
    async with serving(make_app()) as client:
        answer = await post(client, photo((200, 100), "JPEG"), format=format, output=output)
    source = DigitalSource.COMPOSITE if output == "photo" else DigitalSource.TRAINED
    assert answer.headers["content-type"] == f"image/{format}"
    assert answer.headers["x-digital-source-type"] == source.value
    picture = opened(answer.content)
    assert picture.format == format.upper()
    assert picture.size == ((200, 100) if output == "photo" else (64, 64))
    assert source.value.encode() in answer.content
    assert b"DigitalSourceType" in answer.content


async def test_crop_none_with_output_photo_keeps_the_size() -> None:
    async with serving(make_app()) as client:
        answer = await post(client, crop="none", output="photo")
    assert opened(answer.content).size == (64, 64)
    assert "paste" in answer.headers["server-timing"]


async def test_the_headers_tell_time_face_and_name() -> None:
    async with serving(make_app()) as client:
        answer = await post(client)
    steps = re.findall(r"(\w+);dur=[\d.]+(?:, |$)", answer.headers["server-timing"])
    assert steps == ["read", "detect", "queue", "encode", "decode", "write"]
    assert answer.headers["x-face-box"] == "0.0000,0.0000,0.5000,1.0000"
    assert answer.headers["x-face-score"] == "0.97"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-disposition"] == 'inline; filename="echo.png"'
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_face_box_does_not_depend_on_how_a_jpeg_was_decoded() -> None:
    async with serving(make_app()) as client:
        large = await post(client, photo((3300, 300), "JPEG"))
        whole = await post(client, photo((400, 300), "JPEG"))
    assert large.headers["x-face-box"] == whole.headers["x-face-box"]


async def test_a_ready_crop_has_no_face_headers() -> None:
    async with serving(make_app()) as client:
        answer = await post(client, crop="none")
    assert "x-face-box" not in answer.headers


async def test_other_fields_of_the_form_do_no_harm() -> None:
    async with serving(make_app()) as client:
        answer = await client.post("/swap?target=echo", files={"image": photo()}, data={"note": "hello"})
    assert answer.status_code == 200


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2:3_x", True), ("a b", False), ("x" * 65, False)])
async def test_a_sane_request_id_is_kept(given: str, kept: bool) -> None:
    async with serving(make_app()) as client:
        answer = await client.get("/health", headers={"X-Request-ID": given})
    assert (answer.headers["x-request-id"] == given) is kept
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", answer.headers["x-request-id"])


async def test_the_identities_are_listed_and_described() -> None:
    async with serving(make_app()) as client:
        listed = (await client.get("/identities")).json()["identities"]
        echo = (await client.get("/identities/echo")).json()
        preview = await client.get(echo["preview"])
    assert [entry["name"] for entry in listed] == ["echo", "negative"]
    assert listed[1]["preview"] is None
    assert echo["consent"]["kind"] == "synthetic"
    assert echo["training"] == {"steps": 20}
    assert echo["parity"]["tolerance"] == 2
    assert (preview.headers["content-type"], preview.status_code) == ("image/png", 200)


async def test_one_line_in_the_log_per_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "faceswapd.requests")
    async with serving(make_app()) as client:
        answer = await client.get("/identities/a%0Ab?x=%0d%0a", headers={"X-Request-ID": "id-1"})
    assert answer.status_code == 404
    (line,) = [record for record in caplog.records if record.name == "faceswapd.requests"]
    assert line.getMessage() == "GET /identities/{name} 404"
    assert line.__dict__["request_id"] == "id-1" and line.__dict__["milliseconds"] > 0


async def test_a_departed_client_stops_the_work() -> None:
    """uvicorn tells by http.disconnect; the face must then not be encoded."""
    swapper = FakeSwapper()
    encoded: list[int] = []
    swapper.on_encode = lambda crops: encoded.append(len(crops))
    app = make_app(swapper, batch_window_ms=200)
    body = photo()
    arriving: list[Message] = [
        {"type": "http.request", "body": body, "more_body": False},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return arriving.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/swap",
        "raw_path": b"/swap",
        "root_path": "",
        "query_string": b"target=echo",
        "headers": [(b"content-type", b"image/png"), (b"content-length", str(len(body)).encode())],
    }
    async with serving(app) as client:
        await app(scope, receive, send)
        assert sent[0]["status"] == 499
        assert (await client.get("/health")).json()["photos"] == 0
        assert (await post(client)).status_code == 200
    assert encoded == [1]


async def test_the_page_and_its_files_are_served_under_a_strict_policy() -> None:
    async with serving(make_app()) as client:
        page = await client.get("/")
        files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
        answers: list[httpx.Response] = [await client.get(file) for file in files]
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert files and all(answer.status_code == 200 for answer in answers)
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|https?://", page.text)
