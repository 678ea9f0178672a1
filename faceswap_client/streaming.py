"""A stream: frames out, swapped frames in. What is late is left out, so that nothing piles up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from faceswap_client.answers import Face, face_of
from faceswap_client.errors import (
    BrokenAnswerError,
    ProblemError,
    StreamClosedError,
    TimedOutError,
    UnreachableError,
    error_of,
    problem_error,
)

IN_FLIGHT = 2
"""One frame in work and the next already there: more would only wait, fewer let the service wait."""
_MAX_ANSWER = 2**26
"""Bytes; far above any frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A swapped frame."""

    data: bytes = field(repr=False)
    """A JPEG file."""
    number: int
    """Which of the frames that went in, from 0."""
    target: str
    dropped: int
    """How many frames were left out so far, since newer ones had come."""
    face: Face | None
    milliseconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FrameFailure:
    """A frame that could not be swapped, for instance without a face; the stream goes on."""

    number: int
    error: ProblemError
    dropped: int


Shown: TypeAlias = Frame | FrameFailure
Frames: TypeAlias = AsyncIterable[bytes] | Iterable[bytes]
"""Each a JPEG, PNG or WebP file. An ordinary iterator may block, as cameras do: it runs in a thread."""


class Stream:
    """One connection to `WS /stream`; `AsyncClient.stream` opens it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._sent = 0

    async def swap(self, frames: Frames, *, every: bool = False) -> AsyncGenerator[Shown, None]:
        """What becomes of `frames`, in their order, until they end.

        The newest wins: a frame that is still waiting when the next one comes is left out. With `every`
        none is, and `frames` are taken only as fast as they are swapped: for films, not for cameras.
        Raises a ProblemError when the service refuses a `change` or sends the stream away, and
        StreamClosedError when it ends.
        """
        feed = _Feed(self._sent, every)
        tasks = [asyncio.create_task(feed.pull(frames)), asyncio.create_task(feed.push(self._socket))]
        try:
            while await feed.expects():
                shown = await self._next(feed)
                if shown is not None:
                    yield shown
            for task in tasks:
                await task
        finally:
            self._sent = feed.next
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def change(
        self, *, target: str | None = None, output: Literal["face", "photo"] | None = None
    ) -> None:
        """From the next frame on."""
        wanted = {"target": target, "output": output}
        await self._socket.send(json.dumps({name: to for name, to in wanted.items() if to is not None}))

    async def _next(self, feed: _Feed) -> Shown | None:
        """None for a frame of an earlier `swap`."""
        report = json.loads(await self._received(str))
        problem = report.get("problem")
        if "frame" not in report:
            raise problem_error(problem) if problem else BrokenAnswerError("a report about nothing")
        data = b"" if problem else await self._received(bytes)
        number = await feed.settle(report["frame"])
        if number is None:
            return None
        dropped = feed.dropped + report.get("dropped", 0)
        if problem:
            return FrameFailure(number, problem_error(problem), dropped)
        face = face_of(report.get("face"))
        return Frame(data, number, report["target"], dropped, face, report.get("milliseconds", {}))

    async def _received(self, kind: type[Any]) -> Any:
        try:
            message = await self._socket.recv()
        except ConnectionClosed as closed:
            code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
            raise StreamClosedError(code, reason) from closed
        if not isinstance(message, kind):
            raise BrokenAnswerError("a report and its picture are out of step")
        return message


class _Feed:
    """The frames of one `swap`: one that waits here, and those that were sent and not answered yet."""

    def __init__(self, first: int, every: bool) -> None:
        self.next = first
        """The number that the service will give to the next frame."""
        self.dropped = 0
        self._every = every
        self._limit = 1 if every else IN_FLIGHT
        self._waiting: tuple[int, bytes] | None = None
        self._in_flight: dict[int, int] = {}
        self._over = False
        self._changed = asyncio.Condition()

    async def pull(self, frames: Frames) -> None:
        """Takes from the source; where it raises, this does, after what was sent has come back."""
        try:
            number = 0
            async for data in _each(frames):
                async with self._changed:
                    if self._every:
                        await self._changed.wait_for(lambda: self._waiting is None)
                    self.dropped += self._waiting is not None
                    self._waiting = (number, data)
                    self._changed.notify_all()
                number += 1
                await asyncio.sleep(0)  # a source that never waits must not keep the others from running
        finally:
            async with self._changed:
                self._over = True
                self._changed.notify_all()

    async def push(self, socket: ClientConnection) -> None:
        while (data := await self._ready()) is not None:
            try:
                await socket.send(data)
            except ConnectionClosed:
                return  # who receives is told why

    async def _ready(self) -> bytes | None:
        """The newest frame, once there is room for it; None at the end."""
        async with self._changed:
            await self._changed.wait_for(self._may_go)
            if self._waiting is None:
                return None
            number, data = self._waiting
            self._waiting = None
            self._in_flight[self.next] = number
            self.next += 1
            self._changed.notify_all()
            return data

    def _may_go(self) -> bool:
        if self._waiting is None:
            return self._over
        return len(self._in_flight) < self._limit

    async def expects(self) -> bool:
        """Waits until an answer must come; False when all have come and no frame is left."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._in_flight or (self._over and self._waiting is None))
            return bool(self._in_flight)

    async def settle(self, sent: int) -> int | None:
        """Our number of the frame that the service calls `sent`; those before it were replaced by it."""
        async with self._changed:
            number = self._in_flight.get(sent)
            for done in [other for other in self._in_flight if other <= sent]:
                del self._in_flight[done]
            self._changed.notify_all()
            return number


@asynccontextmanager
async def opened(
    url: str, headers: Mapping[str, str], query: Mapping[str, str], timeout_s: float
) -> AsyncIterator[Stream]:
    """A stream of the service at `url`, http or https."""
    address = f"ws{url.removeprefix('http').rstrip('/')}/stream?{urlencode(query)}"
    try:
        socket = await connect(
            address,
            additional_headers=headers,
            open_timeout=timeout_s,
            compression=None,  # frames are compressed already
            max_size=_MAX_ANSWER,
        )
    except InvalidStatus as refused:
        answer = refused.response
        kind = answer.headers.get("Content-Type", "")
        raise error_of(answer.status_code, kind, bytes(answer.body or b"")) from refused
    except TimeoutError as error:
        raise TimedOutError(f"no stream within {timeout_s:g} s") from error
    except (OSError, InvalidHandshake) as error:
        raise UnreachableError(f"the service cannot be reached: {error}") from error
    async with socket:
        yield Stream(socket)


async def _each(frames: Frames) -> AsyncIterator[bytes]:
    if isinstance(frames, AsyncIterable):
        async for data in frames:
            yield data
        return
    source = iter(frames)

    def taken() -> bytes | None:
        return next(source, None)

    while (frame := await asyncio.to_thread(taken)) is not None:
        yield frame
