"""What can be told of an aligned crop without a network: how sharp, how turned, how lit, how it looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from faceswap.alignment import Template, similarity, transform
from faceswap.faces import CROP_SIZE, Landmarks, Pixels, Points

SIGNATURE_SIDE = 16
_CELLS, _ANGLES = 8, 9
_NOSE_DEPTH = 0.55  # the nose tip stands out by about this share of the eye distance
_FRONTAL_NOSE = 0.49  # and lies this far down from the eyes to the mouth

Grey = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Quality:
    """Measures of one crop. Angles are rough: five landmarks and an average head."""

    sharpness: float
    """Variance of the Laplacian over the variance of the luma, so that contrast and exposure cancel."""
    score: float
    """The detector's confidence, 0 to 1. Faces half covered score about 0.05 below clear ones."""
    residual: float
    """Distance (rms) of the aligned landmarks from the template, as a share of the eye distance."""
    side: float
    """Pixels of the photo that became the 64 of the crop's side."""
    yaw: float
    """Degrees, positive where the nose points to the right of the picture."""
    pitch: float
    """Degrees, positive where the nose points down."""
    light: tuple[float, float]
    """Light from the right minus left, from above minus below: differences of mean log luma."""
    luma: float
    """Mean log luma of the face, 0 is white."""
    signature: Vector
    """(256,): the face as 16x16 luma of mean 0 and deviation 1."""


def measure(pixels: Pixels, landmarks: Landmarks, score: float, template: Template) -> Quality:
    """`pixels` (size, size, 3) is the crop that `landmarks` gave on `template`, margin or not."""
    matrix = similarity(landmarks.points, template.points)
    points = transform(landmarks.points, matrix)
    eyes = float(np.linalg.norm(template.points[1] - template.points[0]))
    residual = float(np.sqrt(((points - template.points) ** 2).sum(axis=1).mean())) / eyes
    grey = _face(pixels)
    yaw, pitch = _pose(points)
    logs = np.log((grey + 1) / 256)
    return Quality(
        sharpness(grey),
        score,
        residual,
        CROP_SIZE / float(np.hypot(matrix[0, 0], matrix[1, 0])),
        yaw,
        pitch,
        _light(logs),
        float(logs.mean()),
        _signature(grey),
    )


def _face(pixels: Pixels) -> Grey:
    """Luma (64, 64) of the crop's centre, 0..255."""
    edge = (pixels.shape[0] - CROP_SIZE) // 2
    inner = pixels[edge : edge + CROP_SIZE, edge : edge + CROP_SIZE].astype(np.float32)
    grey: Grey = inner @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return grey


def sharpness(grey: Grey) -> float:
    """Of luma (H, W). A blur of one pixel leaves a ninth of it."""
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return float(laplacian.var() / max(grey.var(), 1.0))


def _pose(points: Points) -> tuple[float, float]:
    """Yaw and pitch in degrees from aligned landmarks (5, 2): where the nose lies between eyes and mouth."""
    eyes, nose, mouth = points[:2].mean(axis=0), points[2], points[3:].mean(axis=0)
    down = mouth - eyes
    height = max(float(np.linalg.norm(down)), 1e-6)
    right = np.array([down[1], -down[0]]) / height
    sideways, along = float((nose - eyes) @ right), float((nose - eyes) @ down) / height**2
    # heights hardly change with yaw and widths do, so the height is the unit: 1.09 eye distances
    depth = _NOSE_DEPTH * height / 1.09
    yaw = np.degrees(np.arcsin(np.clip(sideways / depth, -1, 1)))
    pitch = np.degrees(np.arcsin(np.clip((along - _FRONTAL_NOSE) * height / depth, -1, 1)))
    return float(yaw), float(pitch)


def _light(logs: Grey) -> tuple[float, float]:
    """Of log luma (64, 64), over the cheeks and from forehead to chin."""
    right, left = logs[16:56, 36:52].mean(), logs[16:56, 12:28].mean()
    above, below = logs[10:24, 16:48].mean(), logs[44:60, 16:48].mean()
    return float(right - left), float(above - below)


def _signature(grey: Grey) -> Vector:
    picture = PillowImage.fromarray(grey[4:62, 6:58]).resize(
        (SIGNATURE_SIDE,) * 2, PillowImage.Resampling.BOX
    )
    values = np.asarray(picture, dtype=np.float32).ravel()
    normal: Vector = ((values - values.mean()) / max(float(values.std()), 1.0)).astype(np.float32)
    return normal


def look(pixels: Pixels) -> Vector:
    """(576,) unit vector of a crop's appearance; the dot product of two is their likeness.

    Histograms of oriented gradients (Dalal and Triggs 2005), 8x8 cells of 9 angles, on log luma so
    that exposure cancels. No recogniser: it tells people apart within a clip, hardly across years.
    """
    logs = np.log1p(_face(pixels))
    down, across = np.gradient(logs)
    strength = np.hypot(across, down)
    angle = np.minimum((np.arctan2(down, across) % np.pi) * (_ANGLES / np.pi), _ANGLES - 1).astype(int)
    cell = np.arange(CROP_SIZE) // (CROP_SIZE // _CELLS)
    place = (cell[:, None] * _CELLS + cell[None, :]) * _ANGLES + angle
    cells = np.bincount(place.ravel(), strength.ravel(), _CELLS * _CELLS * _ANGLES).reshape(-1, _ANGLES)
    cells = cells / (np.linalg.norm(cells, axis=1, keepdims=True) + 0.5)
    flat = cells.ravel() - cells.mean()
    unit: Vector = (flat / max(float(np.linalg.norm(flat)), 1e-6)).astype(np.float32)
    return unit
