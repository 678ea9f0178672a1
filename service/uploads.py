"""The photos of a request: multipart field `image` or a raw body, bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from service.errors import (
    BadMultipartError,
    BodyTimeoutError,
    BodyTooLargeError,
    NoImageError,
    UnsupportedBodyError,
)
from service.forms import FIELD, PhotoForm

RAW_TYPES = ("image/", "application/octet-stream")
HOW = (
    f"send the photo as the file field '{FIELD}' of a multipart form (curl -F {FIELD}=@photo.jpg) "
    "or as the body with its type (curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg)"
)

T = TypeVar("T")
Heard = Callable[[int], None]
"""Is told how many bytes have come."""


def announced_bytes(request: Request, limit: int) -> int:
    """What Content-Length says; `limit` where the length is unknown. Raises BodyTooLargeError."""
    length = _content_length(request)
    if length is None:
        return limit
    if length > limit:
        raise BodyTooLargeError(limit)
    return length


async def read_photo(request: Request, limit: int, timeout_s: float, heard: Heard) -> bytes:
    """The photo's bytes, never empty."""
    return (await read_photos(request, limit, timeout_s, heard, 1))[0]


async def read_photos(request: Request, limit: int, timeout_s: float, heard: Heard, most: int) -> list[bytes]:
    """At least one and at most `most`; empty files only beside others. `heard` is told of each piece.

    uvicorn itself would wait for a slow body for ever.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(request, limit, heard, most)
    except TimeoutError:
        raise BodyTimeoutError(timeout_s) from None
    except (BadMultipartError, NoImageError) as error:
        raise type(error)(f"{error}; {HOW}") from None


async def read_body(request: Request, limit: int, timeout_s: float, heard: Heard) -> bytes:
    """The body as it is, whatever its type. BodyTooLargeError, BodyTimeoutError."""
    try:
        async with asyncio.timeout(timeout_s), aclosing(_bounded(request, limit, heard)) as stream:
            return b"".join([chunk async for chunk in stream])
    except TimeoutError:
        raise BodyTimeoutError(timeout_s) from None


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client leaves. The body must have been read.

    uvicorn tells of a client that left only to those who ask; nobody else would stop the work.
    """
    async with _Watch(request):
        return await work


class _Watch:
    """ClientDisconnect out of the block when the client leaves; in the manner of asyncio.timeout."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._is_over = self._has_left = False

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._watcher = asyncio.create_task(_gone(self._request))
        self._watcher.add_done_callback(self._left)

    async def __aexit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._is_over = True
        self._watcher.cancel()
        if self._has_left and self._task is not None:
            others_cancel_it_too = self._task.uncancel() > 0
            if isinstance(error, asyncio.CancelledError) and not others_cancel_it_too:
                raise ClientDisconnect from None

    def _left(self, watcher: asyncio.Task[None]) -> None:
        if watcher.cancelled():
            return
        watcher.exception()  # seen: a connection that cannot be read is as good as gone
        if self._is_over:
            return
        self._has_left = True
        assert self._task is not None
        self._task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _content_length(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() else None


async def _read(request: Request, limit: int, heard: Heard, most: int) -> list[bytes]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _from_form(request, limit, heard, most)
    async with aclosing(_bounded(request, limit, heard)) as stream:
        if kind.startswith(RAW_TYPES):
            body = b"".join([chunk async for chunk in stream])
        else:
            body = await anext(stream)
    if not body:
        raise NoImageError("the body is empty")
    if not kind.startswith(RAW_TYPES):
        what = "is not that of a picture" if kind else "is missing"
        raise UnsupportedBodyError(f"the Content-Type of the body {what}; {HOW}")
    return [body]


async def _bounded(request: Request, limit: int, heard: Heard) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        heard(len(chunk))
        if size > limit:
            raise BodyTooLargeError(limit)
        yield chunk


async def _from_form(request: Request, limit: int, heard: Heard, most: int) -> list[bytes]:
    form = PhotoForm(request.headers["content-type"], most)
    async with aclosing(_bounded(request, limit, heard)) as stream:
        async for chunk in stream:
            form.feed(chunk)
    return form.photos()
