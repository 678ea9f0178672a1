"""Many results as one answer: JSON, a line of JSON each, or a ZIP file, sent while they are made."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from enum import StrEnum

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from service.errors import InternalError, kind_of
from service.metrics import Metrics
from service.pool import ImagePool
from service.problems import problem_of
from service.schemas import FaceFacts, Summary, SwapResult
from service.swapping import Answer, Result
from service.telemetry import Clock

log = logging.getLogger("faceswapd.results")


class ResultForm(StrEnum):
    """What an answer with several results is written as."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    ZIP = "application/zip"

    @classmethod
    def wanted(cls, accept: str) -> ResultForm:
        """By the Accept header; JSON unless another is named."""
        asked = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
        return next((form for form in (cls.NDJSON, cls.ZIP) if form.value in asked), cls.JSON)


class Report:
    """Writes results in a form. One per answer; pictures are put into text in the pool."""

    def __init__(self, form: ResultForm, request_id: str, pool: ImagePool, metrics: Metrics) -> None:
        self.form = form
        self._request_id = request_id
        self._pool = pool
        self._metrics = metrics
        self._started = time.monotonic()
        self._done = self._failed = 0

    async def chunks(self, results: AsyncIterator[Result]) -> AsyncIterator[bytes]:
        """The body of the answer, piece by piece as the results come."""
        write = {
            ResultForm.JSON: self._as_json,
            ResultForm.NDJSON: self._as_lines,
            ResultForm.ZIP: self._as_zip,
        }[self.form]
        async for chunk in write(results):
            yield chunk

    async def _as_lines(self, results: AsyncIterator[Result]) -> AsyncIterator[bytes]:
        async for result in results:
            yield await self._pool.run(Clock(), self._text, result) + b"\n"
        yield b'{"summary":' + self._summary() + b"}\n"

    async def _as_json(self, results: AsyncIterator[Result]) -> AsyncIterator[bytes]:
        comma = b'{"results":['
        async for result in results:
            yield comma + await self._pool.run(Clock(), self._text, result)
            comma = b",\n"
        yield b'],"summary":' + self._summary() + b"}\n"

    async def _as_zip(self, results: AsyncIterator[Result]) -> AsyncIterator[bytes]:
        """Pictures as `000-will.png`, and `results.json`, which tells about each."""
        sink = _Sink()
        rows: list[bytes] = []
        with zipfile.ZipFile(sink, "w") as file:
            async for result in results:
                if isinstance(result.outcome, Answer):
                    name = f"{result.image:03d}-{result.target}.{result.outcome.format.value}"
                    await self._pool.run(Clock(), file.writestr, name, result.outcome.data)
                rows.append(self._text(result, with_data=False))
                yield sink.taken()
            listed = b'{"results":[' + b",\n".join(rows) + b'],"summary":' + self._summary() + b"}\n"
            file.writestr("results.json", listed)
        yield sink.taken()

    def _text(self, result: Result, with_data: bool = True) -> bytes:
        return self._row(result, with_data).model_dump_json(exclude_none=True).encode()

    def _row(self, result: Result, with_data: bool) -> SwapResult:
        answer = result.outcome
        if isinstance(answer, Exception):
            return self._failure(result, answer)
        self._done += 1
        self._metrics.answered(answer)
        return SwapResult(
            image=result.image,
            target=result.target,
            status=200,
            media_type=answer.format.media_type,
            data=base64.b64encode(answer.data).decode() if with_data else None,
            digital_source_type=answer.source.value,
            face=FaceFacts(box=answer.face.box, score=answer.face.score) if answer.face else None,
            milliseconds=answer.clock.milliseconds(),
        )

    def _failure(self, result: Result, error: Exception) -> SwapResult:
        self._failed += 1
        self._metrics.failed([result.target], error)
        problem = problem_of(error, self._request_id)
        if problem.status == kind_of(InternalError()).status:
            log.error("request %s failed for %s", self._request_id, result.target, exc_info=error)
        return SwapResult(image=result.image, target=result.target, status=problem.status, problem=problem)

    def _summary(self) -> bytes:
        seconds = round(time.monotonic() - self._started, 3)
        return Summary(done=self._done, failed=self._failed, seconds=seconds).model_dump_json().encode()


class _Sink(io.RawIOBase):
    """Where a ZIP file is written to that nobody can seek in: what came since the last look."""

    def __init__(self) -> None:
        self._data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._data += data
        return len(data)

    def taken(self) -> bytes:
        data, self._data = bytes(self._data), bytearray()
        return data


class ResultsResponse(StreamingResponse):
    """Holds the places of its results until the last byte is sent or the client has left.

    A client that takes nothing for `patience_s` has left: it would keep the places for ever.
    """

    def __init__(
        self, chunks: AsyncIterator[bytes], form: ResultForm, held: AsyncExitStack, patience_s: float
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would hold lines back
        if form is ResultForm.ZIP:
            headers["Content-Disposition"] = 'attachment; filename="swaps.zip"'
        super().__init__(chunks, headers=headers, media_type=form.value)
        self._held = held
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(self._patience_s):
                await send(message)

        try:
            await super().stream_response(in_time)
        except TimeoutError:
            log.warning("a client took nothing of its results for %g s", self._patience_s)
