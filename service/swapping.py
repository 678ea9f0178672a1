"""One photo through the service: read, find, queue, encode, decode, paste, write."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from faceswap.errors import ImageTooLargeError, NoSuchFaceError
from faceswap.faces import Crop, Face, Image, Pixels, Swapped
from faceswap.images import DigitalSource, ImageFormat, read_image, write_image
from faceswap.swapper import FACE_ONLY_SIDE
from service.batching import Batcher
from service.errors import DeadlineError
from service.inference import Job, only_networks
from service.library import PhotoSwapper
from service.loading import Loader
from service.pool import ImagePool
from service.provenance import PhotoSigner
from service.schemas import CropMode, Output, SwapQuery
from service.small import SMALL_PIXELS, NotSmallError, may_be_small
from service.telemetry import Clock

T = TypeVar("T")


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
    target: str
    format: ImageFormat
    source: DigitalSource
    face: FoundFace | None
    clock: Clock


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one photo for one target: an answer, or why there is none."""

    target: str
    outcome: Answer | Exception
    image: int = 0
    """Which photo of the request."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A photo that was read and cropped; `image` is kept only where it will be pasted into.

    One target at a time is pasted in: a thread may still write for one that has run out of time.
    """

    image: Image | None
    crop: Crop
    face: FoundFace | None
    lock: threading.Lock = field(default_factory=threading.Lock)


class SwapPipeline:
    """Runs photos: pictures in a bounded pool of threads, networks in the batcher."""

    def __init__(
        self,
        swapper: PhotoSwapper,
        loader: Loader,
        batcher: Batcher,
        pool: ImagePool,
        max_pixels: int,
        decode_bytes: int,
        deadline_s: float,
        photos_in_memory: int,
        signer: PhotoSigner | None = None,
    ) -> None:
        self.swapper = swapper
        self._loader = loader
        self._batcher = batcher
        self._pool = pool
        self._max_pixels = max_pixels
        self._decode_bytes = decode_bytes
        self._deadline_s = deadline_s
        self._photos = asyncio.Semaphore(photos_in_memory)
        self._signer = signer
        # On CUDA the card would stand still while its thread reads and writes pictures.
        self._on_cpu = not swapper.provider.startswith("CUDA")

    def around(self, swapper: PhotoSwapper) -> SwapPipeline:
        """The same threads and places, for another bundle."""
        other = copy(self)
        other.swapper = swapper
        return other

    async def swap(self, data: bytes, query: SwapQuery) -> Answer:
        """The answer for the photo in `data` and the one target of `query`.

        Raises what the library raises, or DeadlineError.
        """
        (target,) = query.target
        clock = Clock()
        deadline = time.monotonic() + self._deadline_s
        with self.swapper.hold(target):
            if self._on_cpu and may_be_small(data, query):
                with suppress(NotSmallError):
                    return await self._swap_small(data, target, query, deadline, clock)
            async with self._in_time(), self._room(query.output, clock):
                photo = await self._pool.run(clock, self._open, data, query, clock)
                write = partial(self._write, photo, target=target, query=query, clock=clock)
                if self._on_cpu and query.output is Output.FACE:
                    job = Job(lambda: photo.crop.pixels, write)
                    return await self._run(job, target, deadline, clock)
                face = await self.decoded(photo.crop.pixels, target, deadline, clock)
                return await self._pool.run(clock, write, face)

    async def _swap_small(
        self, data: bytes, target: str, query: SwapQuery, deadline: float, clock: Clock
    ) -> Answer:
        """In one go on the thread that runs the networks; NotSmallError once the header is read."""

        def opened() -> Pixels:
            try:
                return self._open(data, query, clock, min(SMALL_PIXELS, self._max_pixels)).crop.pixels
            except ImageTooLargeError:
                raise NotSmallError from None

        job = Job(opened, partial(self._write, None, target=target, query=query, clock=clock))
        async with self._in_time():
            return await self._run(job, target, deadline, clock)

    async def swap_each(self, data: bytes, query: SwapQuery) -> AsyncGenerator[Result, None]:
        """A result for each target of `query`, in their order; the photo is read and encoded once.

        Raises, before the first one, what is wrong with the photo itself. Close it to stop the work.
        """
        clock = Clock()
        deadline = time.monotonic() + self._deadline_s
        with self.held(query.target):
            async with self._room(query.output, clock):
                async with self._in_time():
                    photo = await self._pool.run(clock, self._open, data, query, clock)
                clocks = {target: clock.copy() for target in query.target}
                failures = await self._warm(clocks)
                warm = {target: own for target, own in clocks.items() if target not in failures}
                with self._batcher.wishes(self.swapper, photo.crop.pixels, warm, deadline) as faces:
                    waiting = dict(zip(warm, faces, strict=True))
                    for target, own in clocks.items():
                        if target in failures:
                            yield Result(target, failures[target])
                        else:
                            yield await self._result(photo, waiting[target], target, query, own)

    async def decoded(self, crop: Pixels, identity: str, deadline: float, clock: Clock) -> Swapped:
        """The decoder, which the caller holds, is loaded before a face is queued: no worker waits for it."""
        return await self._run(only_networks(crop), identity, deadline, clock)

    async def _run(self, job: Job[T], identity: str, deadline: float, clock: Clock) -> T:
        await self._loader.warm(self.swapper, identity, clock)
        return await self._batcher.run(self.swapper, job, identity, deadline, clock)

    @contextmanager
    def held(self, targets: Collection[str]) -> Iterator[None]:
        """A block in which the decoders of `targets`, once loaded, stay. UnknownIdentityError."""
        with ExitStack() as stack:
            for target in targets:
                stack.enter_context(self.swapper.hold(target))
            yield

    async def _warm(self, clocks: Mapping[str, Clock]) -> dict[str, Exception]:
        """Loads the decoders that are not there; why not, for each that will not come.

        Half of the time is for loading: one that hangs must not make the faces of the others late.
        """

        async def warm(target: str) -> None:
            async with self._in_time(0.5):
                await self._loader.warm(self.swapper, target, clocks[target])

        cold = [target for target in clocks if not self.swapper.is_loaded(target)]
        ends = await asyncio.gather(*map(warm, cold), return_exceptions=True)
        return {target: end for target, end in zip(cold, ends, strict=True) if isinstance(end, Exception)}

    async def _result(
        self, photo: _Opened, face: Awaitable[Swapped], target: str, query: SwapQuery, clock: Clock
    ) -> Result:
        try:
            async with self._in_time():
                answer = await self._pool.run(clock, self._write, photo, await face, target, query, clock)
        except Exception as error:
            return Result(target, error)
        return Result(target, answer)

    @asynccontextmanager
    async def _in_time(self, share: float = 1.0) -> AsyncIterator[None]:
        """DeadlineError when the block takes longer than `share` of the time that a swap may take."""
        try:
            async with asyncio.timeout(self._deadline_s * share):
                yield
        except TimeoutError:
            raise DeadlineError from None

    @asynccontextmanager
    async def _room(self, output: Output, clock: Clock) -> AsyncIterator[None]:
        """38 Mpx are 115 MB: photos to be pasted into are few at a time, crops (12 kB) need no room."""
        if output is Output.FACE:
            yield
            return
        with clock.span("queue"):
            await self._photos.acquire()
        try:
            yield
        finally:
            self._photos.release()

    def _open(self, data: bytes, query: SwapQuery, clock: Clock, max_pixels: int | None = None) -> _Opened:
        face_only = query.output is Output.FACE and query.crop is CropMode.AUTO
        with clock.span("read"):
            at_least = FACE_ONLY_SIDE if face_only else None
            image = read_image(data, max_pixels or self._max_pixels, at_least, self._decode_bytes)
        with clock.span("detect"):
            crop, face = self._crop(image, query)
        return _Opened(image if query.output is Output.PHOTO else None, crop, face)

    def _crop(self, image: Image, query: SwapQuery) -> tuple[Crop, FoundFace | None]:
        if query.crop is CropMode.NONE:
            if query.face:
                raise NoSuchFaceError(f"face {query.face} was asked for; a ready crop holds one, number 0")
            return self.swapper.ready_crop(image), None
        face = self.swapper.find_face(image, query.face)
        return self.swapper.align(image, face), found(image, face)

    def _write(
        self, photo: _Opened | None, face: Swapped, target: str, query: SwapQuery, clock: Clock
    ) -> Answer:
        """Of a ready crop alone nothing of the photo is needed: None."""
        image, source = Image(face.pixels), DigitalSource.TRAINED
        with ExitStack() as held:
            if photo is not None and photo.image is not None:
                source = DigitalSource.COMPOSITE
                with clock.span("paste"):
                    held.enter_context(photo.lock)
                    pasted = self.swapper.pasted(photo.image, photo.crop, face.pixels, face.mask)
                    image = held.enter_context(pasted)
            with clock.span("write"):
                data = write_image(image, query.format, source)
        if source is DigitalSource.COMPOSITE and self._signer is not None:
            with clock.span("sign"):
                data = self._signer.sign(data, query.format, source)
        return Answer(data, target, query.format, source, photo.face if photo else None, clock)


def found(image: Image, face: Face) -> FoundFace:
    """`face` in shares of `image`."""
    box, width, height = face.box, image.width, image.height
    return FoundFace((box.left / width, box.top / height, box.right / width, box.bottom / height), face.score)
