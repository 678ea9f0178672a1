"""The log: a form for people and one for machines, request ids on every line, nothing of what was sent."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service import logs
from service.settings import LogFormat, LogLevel
from tests.service.fakes import FakeSwapper, make_app, photo, post, serving

pytestmark = pytest.mark.anyio

SECRET = "MARY-HAD-A-LITTLE-LAMB"


@contextmanager
def logged(form: LogFormat, level: str = "DEBUG") -> Iterator[io.StringIO]:
    """What is written by the logs of the service while the block runs, of every level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.formatter(form))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_json_is_an_object_a_line_with_the_request_id_that_was_answered() -> None:
    with logged(LogFormat.JSON, "INFO") as stream:
        async with serving(make_app()) as client:
            answer = await client.get("/identities/echo", headers={"X-Request-ID": "mine-1"})
            other = await client.get("/identities", headers={"X-Request-ID": "not sane\t"})
    mine, theirs = [e for e in entries(stream) if e["logger"] == "faceswapd.requests"]
    assert answer.headers["x-request-id"] == "mine-1" == mine["request_id"]
    assert other.headers["x-request-id"] == theirs["request_id"] != "not sane\t"
    assert (mine["method"], mine["route"], mine["status"]) == ("GET", "/identities/{name}", 200)
    assert (mine["event"], mine["level"]) == ("GET /identities/{name} 200", "info")
    assert mine["milliseconds"] > 0
    assert mine["timestamp"].endswith("Z")


async def test_a_failure_inside_is_told_with_its_place_and_request_but_no_values() -> None:
    swapper = FakeSwapper()

    def fail(*_: object) -> None:
        secret = SECRET.lower()
        int(secret[:22])

    swapper.on_find = fail
    for form in LogFormat:
        with logged(form) as stream:
            async with serving(make_app(swapper)) as client:
                answer = await post(client)
        assert answer.status_code == 500
        text = stream.getvalue()
        assert "ValueError" in text and "in fail" in text, "what and where"
        assert text.count(answer.headers["x-request-id"]) >= 2
        assert SECRET.lower() not in text, "neither the message, which quotes, nor the variable"


async def test_a_message_of_our_own_or_of_the_system_is_told() -> None:
    swapper = FakeSwapper()

    def fail(*_: object) -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("the arena is gone") from error

    swapper.on_find = fail
    with logged(LogFormat.JSON) as stream:
        async with serving(make_app(swapper)) as client:
            await post(client)
    (told,) = [entry["exception"] for entry in entries(stream) if "exception" in entry]
    first, then = (
        told.index("OSError: [Errno 28] No space left"),
        told.index("RuntimeError: the arena is gone"),
    )
    assert first < told.index("which led to:") < then


@pytest.mark.parametrize("form", LogFormat)
async def test_nothing_that_a_client_sends_is_logged(form: LogFormat) -> None:
    """Whatever it is sent as, and on every level: names, paths, headers, forms, pictures."""
    named = {"image": (f"{SECRET}.png", photo(), f"image/{SECRET}")}
    broken = {"image": ("a.png", photo()[:99] + SECRET.encode(), "image/png")}
    with logged(form) as stream:
        async with serving(make_app()) as client:
            await client.post("/swap", params={"target": "echo"}, files=named)
            await client.post("/swap", params={"target": "echo"}, files=broken)
            await client.post("/swap", params={"target": "echo"}, content=SECRET)
            await client.post("/swap", params={"target": "echo"}, data={"words": SECRET})
            for query in (
                {"target": SECRET},
                {"target": "echo", SECRET: "1"},
                {"target": "echo", "face": SECRET},
            ):
                await client.post("/swap", params=query, files=named)
            for path in (f"/{SECRET}", f"/identities/{SECRET}", f"/problems/{SECRET}", f"/?{SECRET}"):
                await client.get(path, headers={"X-Note": SECRET, "Accept": SECRET, "Cookie": SECRET})
            await client.request(SECRET, "/swap")
            await client.get("/", headers={"X-Request-ID": SECRET + " and spaces"})
            await client.get("/", headers={"User-Agent": SECRET, "Authorization": f"Bearer {SECRET}"})
    text = stream.getvalue()
    ours = [line for line in text.splitlines() if "faceswapd" in line]
    assert len(ours) >= 14
    assert not [line for line in ours if SECRET in line or "PNG" in line]


def test_the_process_writes_to_stderr_in_the_form_that_was_asked_for() -> None:
    stream, root = io.StringIO(), logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        logs.configure(LogLevel.WARNING, LogFormat.CONSOLE, stream)
        logging.getLogger("faceswapd.tests").warning("it %s", "rains")
        logging.getLogger("faceswapd.tests").info("unheard")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    (line,) = stream.getvalue().splitlines()
    assert "[warning" in line and "it rains" in line and "faceswapd.tests" in line
