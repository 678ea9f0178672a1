"""Streams for ordinary Python: the async one, run by an event loop in a thread of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Literal

from anyio.from_thread import BlockingPortal, start_blocking_portal

from faceswap_client.streaming import Shown, Stream


class BlockingStream:
    """One connection to `WS /stream`; `Client.stream` opens it. For one thread at a time."""

    def __init__(self, portal: BlockingPortal, stream: Stream) -> None:
        self._portal = portal
        self._stream = stream

    def swap(self, frames: Iterable[bytes], *, every: bool = False) -> Generator[Shown, None, None]:
        """As `Stream.swap`: of a camera the newest frame wins, with `every` none is left out.

        `frames` are taken in another thread, beside whoever looks at the results.
        """
        shown = self._stream.swap(frames, every=every)
        try:
            while (each := self._portal.call(_next, shown)) is not None:
                yield each
        finally:
            self._portal.call(shown.aclose)

    def change(self, *, target: str | None = None, output: Literal["face", "photo"] | None = None) -> None:
        """From the next frame on."""
        self._portal.call(_change, self._stream, target, output)


@contextmanager
def blocking(opened: AbstractAsyncContextManager[Stream]) -> Iterator[BlockingStream]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(opened) as stream:
        yield BlockingStream(portal, stream)


async def _next(shown: AsyncGenerator[Shown, None]) -> Shown | None:
    return await anext(shown, None)


async def _change(stream: Stream, target: str | None, output: Literal["face", "photo"] | None) -> None:
    await stream.change(target=target, output=output)
