"""Streams against a running service: every frame on demand, the newest otherwise."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

import faceswap_client as fc

pytestmark = pytest.mark.anyio


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(data)).convert("RGB")).astype(int)


@pytest.fixture
def frame(examples: Path) -> bytes:
    return (examples / "a.jpg").read_bytes()


async def test_every_frame_of_a_film_comes_back_in_order(url: str, frame: bytes, examples: Path) -> None:
    film = [frame, (examples / "no-face.jpg").read_bytes(), frame, frame]
    async with fc.AsyncClient(url).stream("echo") as stream:
        shown = [each async for each in stream.swap(film, every=True)]
    assert [each.number for each in shown] == [0, 1, 2, 3] and shown[-1].dropped == 0
    first, failure = shown[0], shown[1]
    assert isinstance(first, fc.Frame) and first.target == "echo" and first.face is not None
    assert np.abs(pixels(first.data) - pixels(frame)).mean() < 4, "the same face in the same place"
    assert isinstance(failure, fc.FrameFailure) and isinstance(failure.error, fc.NoFaceError)


async def test_of_a_fast_camera_the_newest_frames_come_back(url: str, frame: bytes) -> None:
    async def camera() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield frame
            await asyncio.sleep(0.001)

    async with fc.AsyncClient(url).stream("echo", output="face") as stream:
        shown = [each async for each in stream.swap(camera())]
    numbers = [each.number for each in shown]
    assert numbers == sorted(numbers) and numbers[-1] == 299, "the last one is never left out"
    assert len(shown) + shown[-1].dropped == 300 and shown[-1].dropped > 0


async def test_a_change_holds_from_the_next_frame_on_and_a_wrong_one_is_told(url: str, frame: bytes) -> None:
    async with fc.AsyncClient(url).stream("echo", output="face") as stream:
        targets = []
        async for each in stream.swap([frame] * 3, every=True):
            assert isinstance(each, fc.Frame)
            targets.append(each.target)
            await stream.change(target="negative")
        assert targets == ["echo", "negative", "negative"]
        await stream.change(target="nobody")
        with pytest.raises(fc.UnknownIdentityError):
            [each async for each in stream.swap([frame] * 3, every=True)]
        again = [each async for each in stream.swap([frame], every=True)]
        assert again[-1].number == 0, "the stream goes on"


async def test_leaving_in_the_middle_and_coming_back(url: str, frame: bytes) -> None:
    async with fc.AsyncClient(url).stream("echo", output="face") as stream:
        shown = stream.swap([frame] * 9, every=True)
        await anext(shown)
        await shown.aclose()
        again = [each.number async for each in stream.swap([frame] * 2, every=True)]
    assert again == [0, 1]


async def test_what_the_source_raises_is_raised(url: str, frame: bytes) -> None:
    def source() -> Iterator[bytes]:
        yield frame
        raise OSError("the camera is gone")

    async with fc.AsyncClient(url).stream("echo", output="face") as stream:
        seen = []
        with pytest.raises(OSError, match="camera is gone"):
            async for each in stream.swap(source(), every=True):
                seen.append(each.number)  # noqa: PERF401  # the frame before must come
        assert seen == [0]


async def test_a_refused_stream_is_a_type(url: str, frame: bytes) -> None:
    with pytest.raises(fc.UnknownIdentityError):
        async with fc.AsyncClient(url).stream("nobody") as stream:
            [each async for each in stream.swap([frame])]


async def test_a_frame_that_is_too_large_closes_it(url: str, frame: bytes) -> None:
    async with fc.AsyncClient(url).stream("echo") as stream:
        with pytest.raises(fc.StreamClosedError) as caught:
            [each async for each in stream.swap([b"x" * 2_000_001, frame], every=True)]
    assert caught.value.code == 1009


@asynccontextmanager
async def scripted(answers: Callable[[int], bool]) -> AsyncIterator[str]:
    """A server that answers the frames that `answers` names; who has no key gets a 401."""

    async def talk(socket: ServerConnection) -> None:
        number, dropped = 0, 0
        async for _ in socket:
            if answers(number):
                report = {"frame": number, "dropped": dropped, "target": "echo"}
                await socket.send(json.dumps(report))
                await socket.send(b"jpeg")
            else:
                dropped += 1
            number += 1

    def refuse(socket: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Authorization") == "Bearer secret":
            return None
        response = socket.respond(401, '{"type": "/problems/key-missing", "status": 401, "detail": "no key"}')
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/problem+json"
        return response

    async with serve(talk, "127.0.0.1", 0, process_request=refuse) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_frame_that_the_service_replaced_is_not_waited_for(frame: bytes) -> None:
    async def camera() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield frame
            await asyncio.sleep(0.05)  # the server is in this process: it has answered long before

    shown = []
    async with scripted(lambda number: number % 2 == 1) as url, asyncio.timeout(20):
        opened = fc.AsyncClient(url, api_key="secret").stream("echo")
        async with opened as stream:
            shown = [each async for each in stream.swap(camera())]
    assert [each.number for each in shown] == [1, 3, 5]
    assert [each.dropped for each in shown] == [1, 2, 3]


async def test_a_refused_handshake_is_a_problem_too() -> None:
    async with scripted(bool) as url:
        with pytest.raises(fc.KeyRefusedError, match="no key"):
            async with fc.AsyncClient(url).stream("echo"):
                pass


def test_ordinary_python_streams_too(url: str, frame: bytes, examples: Path) -> None:
    film = [frame, (examples / "no-face.jpg").read_bytes(), frame]
    with fc.Client(url) as client, client.stream("echo", output="face") as stream:
        shown = []
        for each in stream.swap(film, every=True):
            shown.append(each)
            stream.change(target="negative")
        again = stream.swap([frame] * 9, every=True)
        assert next(again).number == 0
        again.close()
        stream.change(target="nobody")
        with pytest.raises(fc.UnknownIdentityError):
            list(stream.swap(film, every=True))
    assert [each.number for each in shown] == [0, 1, 2]
    first, failure, last = shown
    assert isinstance(first, fc.Frame) and isinstance(last, fc.Frame)
    assert (first.target, last.target) == ("echo", "negative")
    assert isinstance(failure, fc.FrameFailure) and isinstance(failure.error, fc.NoFaceError)
