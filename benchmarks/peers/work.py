"""The work of a request with crop=none, the same for every peer and for the service: read, infer, write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.subject import Subject
from faceswap.faces import Image, Pixels
from faceswap.images import DigitalSource, ImageFormat, read_image, write_image
from faceswap.sessions import Device

WORKERS = 2
MAX_BATCH = 8
"""That of the service on a CPU."""
PNG = "image/png"


class Work:
    """The graphs of the bundle that the FACESWAPD_* variables name, one thread a run, warmed."""

    def __init__(self) -> None:
        variable = os.environ.get
        subject = Subject(
            Path(variable("FACESWAPD_BUNDLE", "bundles/demo")),
            Device(variable("FACESWAPD_DEVICE", "auto")),
            variable("FACESWAPD_PRECISION"),
        )
        self._identity = subject.identity()
        self._swapper = subject.open()
        self.infer([np.zeros((64, 64, 3), np.uint8)])

    def read(self, data: bytes) -> Pixels:
        """(64, 64, 3) RGB uint8."""
        return self._swapper.ready_crop(read_image(data)).pixels

    def infer(self, crops: Sequence[Pixels]) -> list[Pixels]:
        """Faces (64, 64, 3) for crops of the same shape, in one batch."""
        return list(self._swapper.decode(self._swapper.encode(np.stack(crops)), self._identity))

    def write(self, face: Pixels) -> bytes:
        return write_image(Image(face), ImageFormat.PNG, DigitalSource.TRAINED)

    def swap(self, data: bytes) -> bytes:
        """All three for one picture."""
        (face,) = self.infer([self.read(data)])
        return self.write(face)


def port() -> int:
    return int(os.environ["FACESWAPD_PORT"])


def host() -> str:
    return os.environ["FACESWAPD_HOST"]
