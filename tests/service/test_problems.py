"""Every error of the table over HTTP, as RFC 9457 problems."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from PIL import Image as PillowImage

from faceswap.errors import BundleError, DeviceError, SwapError
from service.errors import TABLE, ServiceError, kind_of
from service.lifecycle import Lifecycle, Phase
from service.schemas import Problem
from tests.service.fakes import FakeSwapper, Gate, make_app, nothing, parts_of, photo, post, serving, until

pytestmark = pytest.mark.anyio

SECRET = "the secret path /home/someone"


def expect(answer: httpx.Response, slug: str, *words: str) -> dict[str, Any]:
    """The problem in `answer`, which must be the one of `slug` and say `words` in its detail."""
    problem: dict[str, Any] = answer.json()
    Problem.model_validate(problem)
    row = next(kind for kind in TABLE.values() if kind.slug == slug)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["type"], problem["title"]) == (f"/problems/{slug}", row.title)
    assert problem["status"] == answer.status_code == row.status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers.get("retry-after") == (row.retry_after_s and str(row.retry_after_s))
    for word in words:
        assert word in problem["detail"]
    return problem


def children(parent: type[Exception]) -> set[type[Exception]]:
    direct = set(parent.__subclasses__())
    return direct.union(*(children(child) for child in direct))


def test_the_table_has_every_error_of_the_library_and_of_the_service() -> None:
    for error in children(SwapError) | children(ServiceError):
        assert set(error.__mro__) & set(TABLE), f"neither {error} nor a parent of it has a row"


def test_slugs_are_unique_and_anything_else_is_an_internal_error() -> None:
    slugs = [kind.slug for kind in TABLE.values()]
    assert len(slugs) == len(set(slugs))
    assert kind_of(ZeroDivisionError(SECRET)).slug == "internal-error"


async def test_every_type_is_an_address_that_explains_it() -> None:
    async with serving(make_app()) as client:
        for kind in TABLE.values():
            row = (await client.get(kind.type)).json()
            assert row == {"type": kind.type, "title": kind.title, "status": kind.status}
        assert len((await client.get("/problems")).json()) == len(TABLE)
        expect(await client.get("/problems/none"), "not-found")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"photo": ("a.png", b"x")}, ["'image'", "only 'photo'"]),
        ({"image": ("a.png", b"")}, ["empty"]),
        ({"image": (None, b"abc")}, ["text, not a file"]),
        ({"a": (None, b"1"), "b": (None, b"2")}, ["only 'a', 'b'"]),
    ],
)
async def test_a_form_without_a_photo(files: dict[str, Any], words: list[str]) -> None:
    async with serving(make_app()) as client:
        expect(await client.post("/swap?target=echo", files=files), "no-image", "curl -F image=", *words)


@pytest.mark.parametrize("kind", ["image/png", "application/x-www-form-urlencoded", ""])
async def test_an_empty_body(kind: str) -> None:
    async with serving(make_app()) as client:
        answer = await client.post("/swap?target=echo", content=b"", headers={"Content-Type": kind})
    expect(answer, "no-image")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json", "text/plain", ""])
async def test_a_body_of_another_type(kind: str) -> None:
    async with serving(make_app()) as client:
        answer = await client.post("/swap?target=echo", content=b"x", headers={"Content-Type": kind})
    expect(answer, "unsupported-body", "Content-Type: image/jpeg")


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"no boundary at all"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
    ],
)
async def test_a_broken_form(header: str, body: bytes) -> None:
    async with serving(make_app()) as client:
        answer = await client.post("/swap?target=echo", content=body, headers={"Content-Type": header})
    expect(answer, "bad-multipart", "image")


async def test_a_form_that_breaks_off() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + photo()[:100]
    async with serving(make_app()) as client:
        answer = await client.post(
            "/swap?target=echo", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
    expect(answer, "bad-multipart", "breaks off")


async def test_forms_are_limited_in_files_fields_and_field_size() -> None:
    file = ("a.png", photo(), "image/png")
    async with serving(make_app()) as client:
        two = await client.post("/swap?target=echo", files=[("image", file), ("image", file)])
        many = await client.post(
            "/swap?target=echo", files={"image": file}, data=dict.fromkeys("abcdefghi", "x")
        )
        long = await client.post("/swap?target=echo", files={"image": file}, data={"a": "x" * 20_000})
    expect(two, "bad-multipart", "more than 1 file")
    expect(many, "bad-multipart", "more than 8 fields")
    expect(long, "bad-multipart", "more than 16384 bytes")


async def test_pictures_that_are_none_cut_off_or_too_large() -> None:
    async with serving(make_app(max_pixels=100 * 100)) as client:
        expect(await post(client, b"no picture"), "not-an-image", "JPEG")
        stream = io.BytesIO()
        PillowImage.new("RGB", (64, 64)).save(stream, "GIF")
        expect(await post(client, stream.getvalue()), "not-an-image")
        expect(await post(client, photo((90, 90), "JPEG")[:400]), "truncated-image")
        expect(await post(client, photo((101, 100))), "image-too-large")


async def test_too_many_bytes_by_content_length_and_streamed() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b"x" * 1000

    async with serving(make_app(max_body_bytes=5000)) as client:
        expect(await post(client, b"x" * 6000), "body-too-large", "5000 bytes")
        headers = {"Content-Type": "image/png"}
        answer = await client.post("/swap?target=echo", content=chunks(), headers=headers)
        assert "content-length" not in answer.request.headers
        expect(answer, "body-too-large", "5000 bytes")
        headers["Content-Type"] = "multipart/form-data; boundary=b"
        head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'

        async def form() -> AsyncIterator[bytes]:
            yield head
            async for chunk in chunks():
                yield chunk

        expect(await client.post("/swap?target=echo", content=form(), headers=headers), "body-too-large")


async def test_a_body_that_does_not_come() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(5)

    async with serving(make_app(body_timeout_s=0.05)) as client:
        answer = await client.post(
            "/swap?target=echo", content=chunks(), headers={"Content-Type": "image/png"}
        )
    expect(answer, "body-timeout", "0.05 s")


async def test_faces_that_are_not_there() -> None:
    async with serving(make_app()) as client:
        expect(await post(client, photo(grey=0)), "no-face")
        expect(await post(client, face=1), "no-such-face")
        expect(await post(client, crop="none", face=1), "no-such-face", "number 0")
        expect(await post(client, photo((65, 64)), crop="none"), "wrong-crop-size", "64x64")


async def test_an_unknown_target_is_refused_before_the_body_is_read() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for read in (True,):
            assert not read, "the body was read"
            yield b""

    async with serving(make_app()) as client:
        problem = expect(await client.post("/swap?target=x", content=chunks()), "unknown-identity", "echo")
        assert problem["known"] == ["echo", "negative"]
        expect(await client.get("/identities/x"), "unknown-identity")
        expect(await client.get("/identities/x/preview"), "unknown-identity")
        expect(await client.get("/identities/negative/preview"), "no-preview")


@pytest.mark.parametrize(
    ("query", "name", "words"),
    [
        ("", "target", ["is missing", "GET /identities"]),
        ("target=echo&face=-1", "face", ["greater than or equal to 0"]),
        ("target=echo&face=SECRET", "face", ["valid integer"]),
        ("target=echo&format=SECRET", "format", ["'png', 'jpeg' or 'webp'"]),
        ("target=echo&crop=SECRET", "crop", ["'auto' or 'none'"]),
        ("target=echo&output=SECRET", "output", ["'face' or 'photo'"]),
        ("target=echo&traget=SECRET", "traget", ["is unknown"]),
    ],
)
async def test_parameters(query: str, name: str, words: list[str]) -> None:
    async with serving(make_app()) as client:
        answer = await client.post(f"/swap?{query}", content=photo(), headers={"Content-Type": "image/png"})
    problem = expect(answer, "invalid-parameter", f"'{name}'", *words)
    assert [error["name"] for error in problem["errors"]] == [name]
    assert "SECRET" not in answer.text


async def test_addresses_and_methods() -> None:
    async with serving(make_app()) as client:
        expect(await client.get("/nothing"), "not-found")
        expect(await client.get("/static/nothing.js"), "not-found")
        answer = await client.get("/swap?target=echo")
    expect(answer, "method-not-allowed")
    assert answer.headers["allow"] == "POST"


async def test_an_unexpected_error_tells_nothing() -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError(SECRET)

    swapper = FakeSwapper()
    swapper.on_encode = fail
    async with serving(make_app(swapper)) as client:
        answer = await post(client)
        swapper.on_encode, swapper.on_find = nothing, fail
        other = await post(client)
    for each in (answer, other):
        expect(each, "internal-error", "log")
        assert SECRET not in each.text


@pytest.mark.parametrize(
    ("error", "slug"), [(BundleError(SECRET), "bundle-unusable"), (DeviceError(SECRET), "device-failed")]
)
async def test_a_broken_decoder_tells_only_the_log(error: Exception, slug: str) -> None:
    def fail(_latents: object, _identity: str) -> None:
        raise error

    swapper = FakeSwapper()
    swapper.on_decode = fail
    async with serving(make_app(swapper)) as client:
        answer = await post(client)
    expect(answer, slug)
    assert SECRET not in answer.text


async def test_the_queue_is_bounded_in_images() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper, queue_images=2)
    async with serving(app) as client:
        first = asyncio.create_task(post(client))
        await gate.reached()
        second = asyncio.create_task(post(client))
        await until(lambda: parts_of(app).admission.taken == 2)
        expect(await post(client), "queue-full")
        gate.open()
        assert [(await task).status_code for task in (first, second)] == [200, 200]
        assert (await post(client)).status_code == 200


async def test_bodies_inside_the_service_are_bounded_in_bytes() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    size = len(photo())
    async with serving(make_app(swapper, queue_bytes=size + 100)) as client:
        first = asyncio.create_task(post(client))
        await gate.reached()
        expect(await post(client), "queue-full")
        gate.open()
        assert (await first).status_code == 200
        assert (await post(client)).status_code == 200, "an empty service takes any body"


async def test_the_deadline() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    async with serving(make_app(swapper, deadline_ms=50)) as client:
        answer = await post(client)
        gate.open()
    expect(answer, "deadline", "try again")


async def test_starting_draining_and_failing() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_warm_up = gate
    app = make_app(swapper)
    async with serving(app, until_warm=False) as client:
        expect(await post(client), "starting")
        gate.open()
        await until(lambda: parts_of(app).lifecycle.phase is Phase.READY)
        parts_of(app).lifecycle.drain()
        expect(await post(client), "draining")


def test_a_failed_start_stays_failed() -> None:
    lifecycle = Lifecycle()
    lifecycle.failed()
    lifecycle.warmed()
    lifecycle.drain()
    assert lifecycle.phase == "failed"
