"""Frames of a clip, one after another and upright. PyAV (FFmpeg) behind one small class; `pip install av`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from faceswap.faces import Image, Pixels
from models.errors import DataError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}
LONGEST_SIDE = 3840
"""Larger frames are shrunk to this: ten frames wait in memory at a time, and no face needs more."""
USUAL_RATE = 25.0
_HD_HEIGHT = 720
_UNSPECIFIED, _BT709 = 2, 1  # AVCOL_SPC_UNSPECIFIED and SWS_CS_ITU709


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A decoded frame: its number in the clip from 0, its time in seconds, and its upright picture."""

    number: int
    seconds: float
    image: Image


class Clip:
    """A video file that is read from start to end and never held as a whole.

    Raises DataError if PyAV is missing, the file is no video, or it has no video stream.
    After `frames` is exhausted, `read` is the number of frames that could be decoded and
    `problem` says in words what could not, or is None.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read = 0
        self.problem: str | None = None
        with self._open() as container:
            stream = self._stream(container)
            rate = stream.average_rate or stream.guessed_rate
            self.rate = float(rate) if rate else USUAL_RATE
            self.seconds = _seconds(container, stream)
            self.expected = stream.frames or round(self.seconds * self.rate)

    def frames(self, every: float = 0.0) -> Iterator[Frame]:
        """All frames, or the first of each `every` seconds. Damaged ones are left out and counted."""
        self.read, self.problem = 0, None
        following = damaged = 0
        with self._open() as container:
            stream = self._stream(container)
            stream.thread_type = "AUTO"
            last = 0.0
            for frame in self._decoded(container, stream):
                number, self.read = self.read, self.read + 1
                last = number / self.rate if frame.time is None else max(float(frame.time), 0.0)
                if frame.is_corrupt:
                    damaged += 1
                elif not every or int(last / every) >= following:
                    following = int(last / every) + 1 if every else 0
                    yield Frame(number, last, Image(_upright_pixels(frame, _pixel_aspect(stream))))
        self._note(damaged, last)

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        from av.error import FFmpegError

        try:
            for packet in container.demux(stream):
                yield from self._decode(packet)
        except FFmpegError as error:
            self.problem = f"reading stopped: {error.strerror}"

    def _decode(self, packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
        from av.error import FFmpegError

        try:
            yield from packet.decode()
        except FFmpegError as error:
            self.problem = f"some of it cannot be decoded: {error.strerror}"

    def _note(self, damaged: int, last: float) -> None:
        """Says what is missing, unless something worse was said already."""
        if self.problem is None and damaged:
            self.problem = f"{damaged} damaged frames"
        short = self.seconds - last > max(1.0, 0.02 * self.seconds) and self.read < 0.98 * self.expected
        if short:
            cut = f"it ends after {last:.1f} of {self.seconds:.1f} seconds"
            self.problem = cut if self.problem is None else f"{self.problem}; {cut}"

    def _open(self) -> InputContainer:
        try:
            import av
            from av.error import FFmpegError
        except ImportError as error:
            raise DataError('clips need PyAV: pip install "av>=16"') from error
        try:
            return av.open(str(self.path), metadata_errors="replace")
        except (FFmpegError, OSError) as error:
            raise DataError(f"{self.path} cannot be read as a video: {error.strerror}") from error

    def _stream(self, container: InputContainer) -> VideoStream:
        if not container.streams.video:
            raise DataError(f"{self.path} has no video stream")
        best = container.streams.best("video")
        return cast("VideoStream", best or container.streams.video[0])


def _seconds(container: InputContainer, stream: VideoStream) -> float:
    """How long the file says it is, or 0."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / 1e6


def _pixel_aspect(stream: VideoStream) -> float:
    """Width of a pixel over its height: not 1 for anamorphic material."""
    aspect = stream.sample_aspect_ratio
    return float(aspect) if aspect and 0.2 < aspect < 5 else 1.0


def _upright_pixels(frame: VideoFrame, aspect: float) -> Pixels:
    """(H, W, 3) RGB with square pixels, turned as the file's display matrix says."""
    width, height = frame.width * aspect, float(frame.height)
    shrink = min(LONGEST_SIDE / max(width, height), 1.0)
    # Untagged HD is BT.709 by convention; swscale would take it for BT.601 and tint the skin.
    untagged_hd = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_HEIGHT
    options: dict[str, Any] = {"src_colorspace": _BT709} if untagged_hd else {}
    rgb = frame.reformat(round(width * shrink), round(height * shrink), format="rgb24", **options)
    pixels = np.asarray(rgb.to_ndarray(), dtype=np.uint8)
    return np.ascontiguousarray(upright(pixels, _display_matrix(frame)))


def _display_matrix(frame: VideoFrame) -> npt.NDArray[np.int32]:
    """(2, 2) as in the file: (x', y') = (x, y) @ matrix, in 16.16 fixed point."""
    from av.sidedata.sidedata import Type

    sides: Any = frame.side_data  # typed as if its keys were strings
    matrix = sides.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return np.eye(2, dtype=np.int32)
    return np.frombuffer(bytes(matrix), np.int32, 9).reshape(3, 3)[:2, :2]


def upright(pixels: Pixels, matrix: npt.NDArray[np.int32]) -> Pixels:
    """`pixels` (H, W, 3) under the nearest quarter turn or mirroring of `matrix` (2, 2).

    A phone writes what its sensor sees and a matrix that says how it was held.
    """
    (a, b), (c, d) = matrix.tolist()
    across, down = a, d
    if abs(b) > abs(a):  # x and y change places
        pixels, across, down = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
