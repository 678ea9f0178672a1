"""A frame of a stream: read, follow the face, encode, decode, paste, write."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass

from faceswap.faces import Crop, Image, Swapped
from faceswap.images import DigitalSource, ImageFormat, read_image, write_image
from faceswap.tracking import FaceFollower
from service.errors import DeadlineError
from service.library import PhotoSwapper
from service.pool import ImagePool
from service.schemas import Output
from service.swapping import Answer, FoundFace, SwapPipeline, found
from service.telemetry import Clock

QUALITY, SUBSAMPLING = 80, "4:2:0"
"""A frame is seen for a moment: half the bytes of a photo's 92, and half the time to write them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture's bytes as they came, and when, by time.monotonic()."""

    number: int
    data: bytes
    arrived: float


@dataclass(frozen=True, slots=True)
class _Opened:
    image: Image
    crop: Crop
    face: FoundFace


class FramePipeline:
    """Runs the frames of all streams."""

    def __init__(self, pool: ImagePool, max_pixels: int, deadline_s: float) -> None:
        self._pool = pool
        self._max_pixels = max_pixels
        self._deadline_s = deadline_s

    async def swap(
        self, pipeline: SwapPipeline, frame: Frame, target: str, output: Output, follower: FaceFollower
    ) -> Answer:
        """A JPEG of the frame with the face of `target`, or of that face alone.

        By the bundle of `pipeline`: a stream asks for that anew with each frame, so it follows a reload,
        and `follower`, which it keeps, knows faces only. Raises what the library raises, or DeadlineError.
        """
        clock = Clock()
        deadline = time.monotonic() + self._deadline_s
        swapper = pipeline.swapper
        try:
            with swapper.hold(target):
                async with asyncio.timeout(self._deadline_s):
                    opened = await self._pool.run(clock, self._open, swapper, frame, follower, clock)
                    face = await pipeline.decoded(opened.crop.pixels, target, deadline, clock)
                    return await self._pool.run(
                        clock, self._write, swapper, opened, face, target, output, clock
                    )
        except TimeoutError:
            raise DeadlineError from None

    def _open(self, swapper: PhotoSwapper, frame: Frame, follower: FaceFollower, clock: Clock) -> _Opened:
        with clock.span("read"):
            image = read_image(frame.data, self._max_pixels)
        with clock.span("detect"):
            face = follower.find(swapper, image, frame.arrived)
            crop = swapper.align(image, face)
        return _Opened(image, crop, found(image, face))

    def _write(
        self,
        swapper: PhotoSwapper,
        opened: _Opened,
        face: Swapped,
        target: str,
        output: Output,
        clock: Clock,
    ) -> Answer:
        image, source = Image(face.pixels), DigitalSource.TRAINED
        with ExitStack() as held:
            if output is Output.PHOTO:
                source = DigitalSource.COMPOSITE
                with clock.span("paste"):
                    pasted = swapper.pasted(opened.image, opened.crop, face.pixels, face.mask)
                    image = held.enter_context(pasted)
            with clock.span("write"):
                data = write_image(image, ImageFormat.JPEG, source, QUALITY, SUBSAMPLING)
        return Answer(data, target, ImageFormat.JPEG, source, opened.face, clock)
