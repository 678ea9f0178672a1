"""One photo through the service: read, find, queue, encode, decode, paste, write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from faceswap.bundle import FileEntry, IdentityEntry, Manifest
from faceswap.errors import NoSuchFaceError
from faceswap.faces import Crop, Face, Image, Pixels, Swapped
from faceswap.images import DigitalSource, ImageFormat, read_image, write_image
from faceswap.swapper import FACE_ONLY_SIDE
from service.batching import Batcher
from service.errors import DeadlineError
from service.inference import Networks
from service.loading import Loader
from service.schemas import CropMode, Output, SwapQuery
from service.telemetry import Clock

T = TypeVar("T")


class Shelf(Protocol):
    """The files of a bundle."""

    def read(self, entry: FileEntry) -> bytes: ...

    def identity(self, name: str) -> IdentityEntry: ...


class Decoders(Protocol):
    """Which decoders are in memory."""

    @property
    def loaded(self) -> list[str]: ...

    @property
    def pinned(self) -> tuple[str, ...]: ...

    @property
    def bytes(self) -> int: ...

    @property
    def limit_bytes(self) -> int | None: ...


class PhotoSwapper(Networks, Protocol):
    """The part of `faceswap.Swapper` that the service needs."""

    @property
    def provider(self) -> str: ...

    @property
    def manifest(self) -> Manifest: ...

    @property
    def bundle(self) -> Shelf: ...

    @property
    def decoders(self) -> Decoders: ...

    def check(self, identity: str) -> None: ...

    def hold(self, identity: str) -> AbstractContextManager[None]: ...

    def is_loaded(self, identity: str) -> bool: ...

    def load(self, identity: str) -> None: ...

    def find_face(self, image: Image, index: int = 0) -> Face: ...

    def align(self, image: Image, face: Face) -> Crop: ...

    def ready_crop(self, image: Image) -> Crop: ...

    def paste(self, photo: Image, crop: Crop, face: Pixels, mask: Pixels | None = None) -> Image: ...

    def warm_up(self) -> None: ...

    def reopened(self, bundle: Path) -> PhotoSwapper: ...

    def take_over(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FoundFace:
    """Where the face is: left, top, right, bottom as shares of the upright photo's sides.

    Shares, because a large JPEG may have been decoded at a fraction of its size.
    """

    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The written picture and what the headers tell about it."""

    data: bytes
    format: ImageFormat
    source: DigitalSource
    face: FoundFace | None
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Opened:
    """A photo that was read and cropped; `image` is kept only where it will be pasted into."""

    image: Image | None
    crop: Crop
    face: FoundFace | None


class SwapPipeline:
    """Runs photos: pictures in a bounded pool of threads, networks in the batcher."""

    def __init__(
        self,
        swapper: PhotoSwapper,
        loader: Loader,
        batcher: Batcher,
        pool: ThreadPoolExecutor,
        max_pixels: int,
        deadline_s: float,
        photos_in_memory: int,
    ) -> None:
        self.swapper = swapper
        self._loader = loader
        self._batcher = batcher
        self._pool = pool
        self._max_pixels = max_pixels
        self._deadline_s = deadline_s
        self._photos = asyncio.Semaphore(photos_in_memory)

    def around(self, swapper: PhotoSwapper) -> SwapPipeline:
        """The same threads and places, for another bundle."""
        other = copy(self)
        other.swapper = swapper
        return other

    async def swap(self, data: bytes, query: SwapQuery) -> Answer:
        """The answer to `query` for the photo in `data`. Raises what the library raises, or DeadlineError."""
        clock = Clock()
        deadline = time.monotonic() + self._deadline_s
        try:
            with self.swapper.hold(query.target):
                async with asyncio.timeout(self._deadline_s), self._room(query.output, clock):
                    photo = await self._in_pool(clock, self._open, data, query, clock)
                    face = await self._decoded(photo.crop.pixels, query.target, deadline, clock)
                    return await self._in_pool(clock, self._write, photo, face, query, clock)
        except TimeoutError:
            raise DeadlineError from None

    async def _decoded(self, crop: Pixels, identity: str, deadline: float, clock: Clock) -> Swapped:
        """The decoder, which the caller holds, is loaded before a face is queued: no worker waits for it."""
        await self._loader.warm(self.swapper, identity, clock)
        return await self._batcher.swap(self.swapper, crop, identity, deadline, clock)

    @asynccontextmanager
    async def _room(self, output: Output, clock: Clock) -> AsyncIterator[None]:
        """50 Mpx are 150 MB: photos to be pasted into are few at a time, crops (12 kB) need no room."""
        if output is Output.FACE:
            yield
            return
        with clock.span("queue"):
            await self._photos.acquire()
        try:
            yield
        finally:
            self._photos.release()

    async def _in_pool(self, clock: Clock, step: Callable[..., T], *arguments: Any) -> T:
        """`step(*arguments)` in the pool. Cancelled before its turn, it never runs."""
        submitted = time.monotonic()

        def timed() -> T:
            clock.add("queue", time.monotonic() - submitted)
            return step(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._pool, timed)

    def _open(self, data: bytes, query: SwapQuery, clock: Clock) -> _Opened:
        face_only = query.output is Output.FACE and query.crop is CropMode.AUTO
        with clock.span("read"):
            image = read_image(data, self._max_pixels, at_least=FACE_ONLY_SIDE if face_only else None)
        with clock.span("detect"):
            crop, face = self._crop(image, query)
        return _Opened(image if query.output is Output.PHOTO else None, crop, face)

    def _crop(self, image: Image, query: SwapQuery) -> tuple[Crop, FoundFace | None]:
        if query.crop is CropMode.NONE:
            if query.face:
                raise NoSuchFaceError(f"face {query.face} was asked for; a ready crop holds one, number 0")
            return self.swapper.ready_crop(image), None
        face = self.swapper.find_face(image, query.face)
        return self.swapper.align(image, face), _found(image, face)

    def _write(self, photo: _Opened, face: Swapped, query: SwapQuery, clock: Clock) -> Answer:
        image, source = Image(face.pixels), DigitalSource.TRAINED
        if photo.image is not None:
            source = DigitalSource.COMPOSITE
            with clock.span("paste"):
                image = self.swapper.paste(photo.image, photo.crop, face.pixels, face.mask)
        with clock.span("write"):
            data = write_image(image, query.format, source)
        return Answer(data, query.format, source, photo.face, clock)


def _found(image: Image, face: Face) -> FoundFace:
    box, width, height = face.box, image.width, image.height
    return FoundFace((box.left / width, box.top / height, box.right / width, box.bottom / height), face.score)
