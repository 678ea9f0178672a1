"""WS /stream: frames in, frames out."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from faceswap.images import DigitalSource
from service.lifecycle import Phase
from service.schemas import FrameReport
from tests.service.fakes import FakeSwapper, Gate, make_app, opened, parts_of, photo, post, serving, until
from tests.service.sockets import connected
from tests.service.test_problems import SECRET

pytestmark = pytest.mark.anyio


def frame(grey: int | None = None, size: tuple[int, int] = (160, 120)) -> bytes:
    return photo(size, "JPEG", grey, quality=95)


def mean(data: bytes) -> float:
    return float(np.asarray(opened(data)).mean())


async def test_a_frame_comes_back_whole_with_its_report_first() -> None:
    app = make_app()
    async with serving(app), connected(app, "target=negative") as client:
        for number in range(2):
            client.send(frame())
            report = await client.report()
            FrameReport.model_validate(report)
            data = await client.picture()
            assert (report["frame"], report["dropped"], report["target"]) == (number, 0, "negative")
            assert report["face"] == {"box": [0, 0, 0.5, 1], "score": 0.97}
            assert report["milliseconds"]["total"] >= report["milliseconds"]["read"]
            assert (opened(data).format, opened(data).size) == ("JPEG", (160, 120))
            assert DigitalSource.COMPOSITE.value.encode() in data
    assert client.accepted and client.accepted["type"] == "websocket.accept"


async def test_output_face_gives_the_face_alone_in_any_input_format() -> None:
    app = make_app()
    async with serving(app), connected(app, "target=echo&output=face") as client:
        for format in ("JPEG", "PNG", "WEBP"):
            client.send(photo((64, 64), format, 120))
            assert (await client.report())["output"] == "face"
            data = await client.picture()
            assert opened(data).size == (64, 64)
            assert abs(mean(data) - 120) < 3
            assert DigitalSource.TRAINED.value.encode() in data


async def test_the_newest_frame_wins() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper)
    async with serving(app), connected(app, "target=echo&output=face") as client:
        client.send(frame(50))
        await gate.reached()
        for grey in (80, 110, 140, 170):
            client.send(frame(grey))
        await asyncio.sleep(0.05)
        gate.open()
        first, a = await client.report(), await client.picture()
        second, b = await client.report(), await client.picture()
    assert (first["frame"], second["frame"], second["dropped"]) == (0, 4, 3)
    assert abs(mean(a) - 50) < 3 and abs(mean(b) - 170) < 3


async def test_what_is_wrong_with_a_frame_is_told_and_the_stream_goes_on() -> None:
    app = make_app(stream_pixels=200 * 200)
    async with serving(app), connected(app) as client:
        for data, slug in (
            (frame(0), "no-face"),
            (b"no picture", "not-an-image"),
            (frame()[:300], "truncated-image"),
            (frame(size=(201, 200)), "image-too-large"),
        ):
            client.send(data)
            assert await client.problem() == slug
        client.send(frame())
        assert (await client.report())["frame"] == 4
        await client.picture()


async def test_the_target_changes_between_frames() -> None:
    app = make_app()
    async with serving(app), connected(app, "target=echo&output=face") as client:
        client.send(frame(100))
        assert (await client.report())["target"] == "echo"
        await client.picture()
        client.send('{"target": "negative"}')
        client.send(frame(100))
        assert (await client.report())["target"] == "negative"
        assert abs(mean(await client.picture()) - 155) < 3
        client.send('{"output": "photo"}')
        client.send(frame(100))
        report = await client.report()
        assert (report["target"], report["output"]) == ("negative", "photo")
        assert opened(await client.picture()).size == (160, 120)


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ('{"target": "nobody"}', "unknown-identity"),
        ("SECRET", "invalid-parameter"),
        ('{"output": "SECRET"}', "invalid-parameter"),
        ('{"speed": 1}', "invalid-parameter"),
    ],
)
async def test_a_message_that_is_wrong_changes_nothing(text: str, slug: str) -> None:
    app = make_app()
    async with serving(app), connected(app) as client:
        client.send(text)
        report = await client.report()
        assert report["problem"]["type"] == f"/problems/{slug}"
        assert "SECRET" not in json.dumps(report)
        client.send(frame())
        assert (await client.report())["target"] == "echo"
        await client.picture()


@pytest.mark.parametrize(
    ("query", "slug", "word"),
    [
        ("target=nobody", "unknown-identity", "nobody"),
        ("", "invalid-parameter", "target"),
        ("target=echo&output=SECRET", "invalid-parameter", "output"),
        ("target=echo&fps=3", "invalid-parameter", "fps"),
    ],
)
async def test_a_wrong_query_is_told_and_closed_with_1008(query: str, slug: str, word: str) -> None:
    app = make_app()
    async with serving(app), connected(app, query) as client:
        assert await client.problem() == slug
        code, reason = await client.closed()
    assert code == 1008 and word in reason and len(reason.encode()) <= 123
    assert "SECRET" not in reason


async def test_streams_are_limited() -> None:
    app = make_app(streams=1)
    async with serving(app) as http:
        async with connected(app):
            await until(lambda: parts_of(app).seats.taken == 1)
            async with connected(app) as second:
                assert await second.problem() == "streams-full"
                assert (await second.closed())[0] == 1013
        assert parts_of(app).seats.taken == 0
        assert (await http.get("/health/live")).status_code == 200


async def test_a_frame_of_too_many_bytes_closes_with_1009() -> None:
    app = make_app(stream_frame_bytes=1000)
    async with serving(app), connected(app) as client:
        client.send(b"x" * 1001)
        assert await client.problem() == "body-too-large"
        assert (await client.closed())[0] == 1009


async def test_a_silent_stream_closes_with_1001() -> None:
    app = make_app(stream_idle_s=0.05)
    async with serving(app), connected(app) as client:
        assert await client.closed() == (1001, "no frame came for 0.05 s")


async def test_a_service_that_stops_or_starts_closes_with_1012_or_1013() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_warm_up = gate
    app = make_app(swapper)
    async with serving(app, until_warm=False):
        async with connected(app) as early:
            assert await early.problem() == "starting"
            assert (await early.closed())[0] == 1013
        gate.open()
        await until(lambda: parts_of(app).lifecycle.phase is Phase.READY)
        async with connected(app) as client:
            parts_of(app).lifecycle.drain()
            client.send(frame())
            assert await client.problem() == "draining"
            assert (await client.closed())[0] == 1012


@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        ("http://service", True),
        ("https://SERVICE", True),
        ("https://friend.example", True),
        ("https://evil.example", False),
        ("http://service.evil.example", False),
        ("http://service:8001", False),
        ("null", False),
    ],
)
async def test_pages_of_other_sites_are_refused_before_the_handshake(origin: str, ours: bool) -> None:
    app = make_app(stream_origins="https://other.example, https://friend.example")
    async with serving(app), connected(app, origin=origin) as client:
        assert client.accepted
        if ours:
            assert client.accepted["type"] == "websocket.accept"
        else:
            assert (client.accepted["type"], client.accepted["status"]) == (
                "websocket.http.response.start",
                403,
            )
            assert b"/problems/foreign-page" in (await client.message())["body"]


async def test_a_full_service_drops_the_frame_and_goes_on() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper, queue_images=1)
    async with serving(app) as http, connected(app) as client:
        single = asyncio.create_task(post(http))
        await gate.reached()
        client.send(frame())
        assert await client.problem() == "queue-full"
        gate.open()
        assert (await single).status_code == 200
        client.send(frame())
        assert (await client.report())["frame"] == 1


async def test_an_unexpected_error_tells_nothing_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError(SECRET)

    swapper = FakeSwapper()
    swapper.on_encode = fail
    app = make_app(swapper)
    async with serving(app), connected(app) as client:
        client.send(frame())
        report = await client.report()
    assert report["problem"]["type"] == "/problems/internal-error"
    assert SECRET not in json.dumps(report)
    assert SECRET in caplog.text


async def test_a_client_that_leaves_ends_the_work() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    app = make_app(swapper)
    async with serving(app):
        async with connected(app) as client:
            client.send(frame())
            await gate.reached()
        assert (parts_of(app).admission.taken, parts_of(app).seats.taken) == (0, 0)
        gate.open()


async def test_one_line_in_the_log_per_stream(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "faceswapd.requests")
    app = make_app()
    async with serving(app):
        async with connected(app, **{"x-request-id": "id-1"}) as client:
            client.send(frame())
            await client.report()
            await client.picture()
            client.send(frame(0))
            await client.report()
        async with connected(app, origin="http://evil.example"):
            pass
    told, refused = [record for record in caplog.records if record.name == "faceswapd.requests"]
    assert (told.getMessage(), refused.getMessage()) == ("WS /stream 1001", "WS /stream 403")
    facts = told.__dict__
    assert (facts["frames"], facts["answered"], facts["request_id"]) == (2, 1, "id-1")
    assert facts["seconds"] >= 0
    assert client.accepted and (b"x-request-id", b"id-1") in client.accepted["headers"]


async def test_the_face_is_looked_for_where_it_was() -> None:
    swapper = FakeSwapper()
    found: list[int] = []
    swapper.on_find = lambda: found.append(1)
    app = make_app(swapper)
    async with serving(app), connected(app) as client:
        for grey in (None, None, 0, None):
            client.send(frame(grey))
            if "problem" not in await client.report():
                await client.picture()
    assert (len(found), swapper.followed) == (3, 2)
