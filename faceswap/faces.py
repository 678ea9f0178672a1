"""The words of the library: Image, Box, Landmarks, Face, Crop. Shapes and units live here.

Coordinates are continuous pixels: (0, 0) is the top-left corner of the picture, the centre of
its first pixel is (0.5, 0.5), x grows to the right and y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

CROP_SIZE = 64
"""Side of an aligned crop and of a swapped face in pixels (the paper, section 3.2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A picture: `pixels` (H, W, 3), RGB, uint8, already upright."""

    pixels: Pixels

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise ValueError(
                f"an Image needs (H, W, 3) uint8 RGB pixels, got {self.pixels.shape} {self.pixels.dtype}"
            )

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in image pixels; it may reach beyond the picture."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def area(self) -> float:
        return max(self.width, 0.0) * max(self.height, 0.0)

    def grown(self, factor: float) -> Box:
        """The box with the same centre and `factor` times its size."""
        dx, dy = self.width * (factor - 1) / 2, self.height * (factor - 1) / 2
        return Box(self.left - dx, self.top - dy, self.right + dx, self.bottom + dy)


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """Five points (5, 2) float64 x, y in image pixels.

    Order, as seen in the picture: left eye, right eye, nose tip, left and right mouth corner.
    """

    points: Points

    def __post_init__(self) -> None:
        if self.points.shape != (5, 2):
            raise ValueError(f"Landmarks need five (x, y) points, got shape {self.points.shape}")

    @property
    def eye_distance(self) -> float:
        return float(np.linalg.norm(self.points[1] - self.points[0]))


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A found face; `score` is the detector's confidence, 0 to 1."""

    box: Box
    landmarks: Landmarks
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Swapped:
    """A swapped face: `pixels` (64, 64, 3) RGB and the decoder's own `mask` (64, 64), both uint8.

    The mask is 255 where the face can be trusted and 0 where the photo's own pixels are better, such as
    the background beside a turned face. None comes from a decoder that has no mask.
    """

    pixels: Pixels
    mask: Pixels | None = None

    @classmethod
    def of(cls, planes: Pixels) -> Swapped:
        """From a decoder's answer for one face: (64, 64, 3) RGB, or (64, 64, 4) RGB and mask."""
        if planes.shape[-1] == 3:
            return cls(planes)
        return cls(rgb_of(planes), np.ascontiguousarray(planes[..., 3]))


def rgb_of(planes: Pixels) -> Pixels:
    """(..., 3) of (..., 3) or (..., 4). Plane by plane: numpy takes 5 times as long for three at once."""
    if planes.shape[-1] == 3:
        return np.ascontiguousarray(planes)
    pixels = np.empty((*planes.shape[:-1], 3), np.uint8)
    for number in range(3):
        pixels[..., number] = planes[..., number]
    return pixels


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """An aligned face: `pixels` (64, 64, 3) RGB uint8; `matrix` (2, 3) maps image to crop.

    `landmarks`, in pixels of the crop, are known where it was cut out by them.
    """

    pixels: Pixels
    matrix: Matrix
    landmarks: Landmarks | None = None
