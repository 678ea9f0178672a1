"""Small clips for the tests, made from the sample photos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

av = pytest.importorskip("av", reason="PyAV is not installed")

Picture = PillowImage.Image
WIDTH, HEIGHT, RATE = 480, 270, 25


def view(photo: Picture, zoom: float = 1.0, dx: float = 0.0, dy: float = 0.0) -> Picture:
    """What a camera of 480x270 sees of `photo`: at zoom 1 its whole height, moved by (dx, dy) pixels."""
    scale = zoom * HEIGHT / photo.height
    left, top = photo.width / 2 - (WIDTH / 2 + dx) / scale, photo.height / 2 - (HEIGHT / 2 + dy) / scale
    matrix = (1 / scale, 0, left, 0, 1 / scale, top)
    smaller = PillowImage.Resampling.BICUBIC
    return photo.transform((WIDTH, HEIGHT), PillowImage.Transform.AFFINE, matrix, smaller)


def black() -> Picture:
    return PillowImage.new("RGB", (WIDTH, HEIGHT))


def write_clip(path: Path, frames: Iterable[Picture], times: list[int] | None = None) -> Path:
    """MPEG-4 at 25 frames a second; `times` in 1/25 s make the frame rate a variable one."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.bit_rate = 6_000_000
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_image(picture)
            if index == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            frame.pts = times[index] if times else index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """A file with half a second of silence and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Writes a display matrix (a, b, c, d), each -1, 0 or 1, into an MP4, as a phone held upright does."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2, version 0
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[start + offset : start + offset + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(bytes(data))
