"""A stream: frames in, frames out, the newest first; what is wrong with one is told and it goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus

from fastapi import WebSocket
from pydantic import BaseModel, ValidationError
from starlette.websockets import WebSocketDisconnect

from faceswap.errors import UnknownIdentityError
from faceswap.tracking import FaceFollower
from service.admission import Seat
from service.errors import BodyTooLargeError, InvalidParameterError, kind_of
from service.frames import Frame
from service.parts import Parts
from service.problems import problem_of, wrong_parameters
from service.rates import meter_of
from service.schemas import FaceFacts, FrameReport, StreamChange, StreamQuery
from service.swapping import Answer

_REASON_BYTES = 123
"""What a control frame of 125 bytes has left beside the code."""

log = logging.getLogger("faceswapd.streaming")


class IdleError(Exception):
    """Nothing came for too long."""


class Talk:
    """What is said on one socket; a report and its picture are never parted."""

    def __init__(self, socket: WebSocket, request_id: str) -> None:
        self.socket = socket
        self.request_id = request_id
        self._turn = asyncio.Lock()

    async def say(self, report: BaseModel, picture: bytes | None = None) -> None:
        async with self._turn:
            await self.socket.send_text(report.model_dump_json(exclude_none=True))
            if picture is not None:
                await self.socket.send_bytes(picture)

    async def close(self, code: int, reason: str) -> None:
        await self.socket.close(code, reason.encode()[:_REASON_BYTES].decode(errors="ignore"))


class Stream:
    """One connection. A frame that comes while another is in work replaces the one that waits."""

    def __init__(self, talk: Talk, parts: Parts, query: StreamQuery, seat: Seat) -> None:
        self._talk = talk
        self._seat = seat
        self._parts = parts
        self._target, self._output = query.target, query.output
        self._follower = FaceFollower(query.face)
        self._newest: Frame | None = None
        self._came = asyncio.Event()
        self._frames = self._dropped = 0

    async def run(self) -> None:
        """Until the client leaves (WebSocketDisconnect) or is to be sent away (any other error)."""
        tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._work())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        settings = self._parts.settings
        while True:
            try:
                async with asyncio.timeout(settings.stream_idle_s) as limit:
                    self._seat.waits(limit)
                    message = await self._talk.socket.receive()
            except TimeoutError:
                if not self._seat.is_held:
                    raise IdleError("no frame came for a while, and another stream needs the place") from None
                raise IdleError(f"no frame came for {settings.stream_idle_s:g} s") from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
            data: bytes | None = message.get("bytes")
            if data is None:
                await self._change(message.get("text") or "")
            elif len(data) > settings.stream_frame_bytes:
                raise BodyTooLargeError(settings.stream_frame_bytes)
            else:
                self._offer(data)

    def _offer(self, data: bytes) -> None:
        if self._newest is not None:
            self._dropped += 1
            self._parts.metrics.dropped_frame()
        self._newest = Frame(self._frames, data, time.monotonic())
        self._frames += 1
        self._came.set()

    async def _change(self, text: str) -> None:
        try:
            change = StreamChange.model_validate_json(text)
            self._parts.swapper.check(change.target or self._target)
        except ValidationError as error:
            await self._tell(invalid(error, "message"))
        except UnknownIdentityError as error:
            await self._tell(error)
        else:
            self._target = change.target or self._target
            self._output = change.output or self._output

    async def _work(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            frame, self._newest = self._newest, None
            if frame is not None:
                self._parts.lifecycle.require_ready()
                await self._swap(frame)

    async def _swap(self, frame: Frame) -> None:
        try:
            meter_of(self._talk.socket.scope).take()
            with self._parts.admission.place(len(frame.data)):
                work = self._parts.frames.swap(
                    self._parts.pipeline, frame, self._target, self._output, self._follower
                )
                answer = await self._parts.metrics.watched([self._target], work)
        except Exception as error:
            await self._tell(error, frame.number)
        else:
            self._parts.metrics.answered(answer)
            await self._talk.say(self._report(frame, answer), answer.data)

    def _report(self, frame: Frame, answer: Answer) -> FrameReport:
        return FrameReport(
            frame=frame.number,
            dropped=self._dropped,
            target=answer.target,
            output=self._output,
            face=FaceFacts(box=answer.face.box, score=answer.face.score) if answer.face else None,
            milliseconds=answer.clock.milliseconds()
            | {"total": round((time.monotonic() - frame.arrived) * 1000, 1)},
        )

    async def _tell(self, error: Exception, number: int | None = None) -> None:
        if kind_of(error).status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("stream %s failed at frame %s", self._talk.request_id, number, exc_info=error)
        problem = problem_of(error, self._talk.request_id)
        self._parts.metrics.refused(problem.status, kind_of(error).slug)
        await self._talk.say(FrameReport(frame=number, dropped=self._dropped, problem=problem))


def invalid(error: ValidationError, where: str) -> InvalidParameterError:
    entries = error.errors(include_url=False, include_context=False, include_input=False)
    wrong = wrong_parameters([{**entry, "loc": (where, *entry["loc"])} for entry in entries])
    return InvalidParameterError("; ".join(f"{w.where} parameter '{w.name}': {w.message}" for w in wrong))
