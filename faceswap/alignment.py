"""Into crop space and back: a 5-point similarity onto a template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from faceswap.faces import CROP_SIZE, Crop, Image, Landmarks, Matrix, Pixels, Points

DEFAULT_TEMPLATE: tuple[tuple[float, float], ...] = (
    (0.342, 0.40),
    (0.658, 0.40),
    (0.500, 0.57),
    (0.370, 0.745),
    (0.630, 0.745),
)
"""Where the five landmarks lie in a crop, as shares of its side. A bundle's manifest carries its own."""


@dataclass(frozen=True, slots=True)
class Template:
    """Target points of the alignment, as shares of the crop's side, and the side in pixels."""

    shares: tuple[tuple[float, float], ...] = DEFAULT_TEMPLATE
    size: int = CROP_SIZE

    @property
    def points(self) -> Points:
        """(5, 2) in crop pixels."""
        return np.asarray(self.shares, dtype=np.float64) * self.size

    def with_margin(self, margin: int) -> Template:
        """The same face at the same scale with `margin` more pixels on every side.

        Training crops keep a margin so that augmentation never has to invent pixels.
        """
        size = self.size + 2 * margin
        shares = [((x * self.size + margin) / size, (y * self.size + margin) / size) for x, y in self.shares]
        return Template(tuple(shares), size)


def similarity(source: Points, target: Points) -> Matrix:
    """The least-squares rotation, scale and shift from `source` to `target`, both (n, 2), as (2, 3).

    In the complex plane a similarity is w = a*z + b; `a` follows from one division and the
    result can never mirror (Umeyama 1991 without the SVD).
    """
    z, w = source @ (1, 1j), target @ (1, 1j)
    zc, wc = z - z.mean(), w - w.mean()
    a = np.vdot(zc, wc) / max(float(np.vdot(zc, zc).real), 1e-12)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def invert(matrix: Matrix) -> Matrix:
    """The (2, 3) matrix that undoes `matrix` (2, 3)."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, -linear @ matrix[:, 2:]])


def transform(points: npt.NDArray[np.float64], matrix: Matrix) -> Points:
    """`points` (n, 2) mapped by `matrix` (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def resample(pixels: Pixels, matrix: Matrix, size: int) -> Pixels:
    """The (size, size, 3) picture that `matrix` (2, 3, image -> crop) cuts out of `pixels` (H, W, 3).

    Strong shrinking is done by a box filter first, as an interpolation alone would alias; what
    lies beyond the picture repeats its edge.
    """
    back = invert(matrix)
    corners = transform(np.array([[0, 0], [size, 0], [size, size], [0, size]], dtype=np.float64), back)
    shrink = max(int(np.hypot(back[0, 0], back[1, 0])), 1)
    # whole blocks of the picture's own grid: a larger crop of the same face gets the same pixels
    x0, y0 = (np.floor(corners.min(axis=0) / shrink).astype(int) - 4) * shrink
    x1, y1 = (np.ceil(corners.max(axis=0) / shrink).astype(int) + 4) * shrink
    rows = np.clip(np.arange(y0, y1), 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(x0, x1), 0, pixels.shape[1] - 1)
    window = PillowImage.fromarray(pixels[rows[:, None], columns])
    back = back - np.array([[0, 0, x0], [0, 0, y0]])
    if shrink >= 2:
        window, back = window.reduce(shrink), back / shrink
    method, filter_ = PillowImage.Transform.AFFINE, PillowImage.Resampling.BICUBIC
    return np.asarray(window.transform((size, size), method, tuple(back.ravel()), filter_))


def align(image: Image, landmarks: Landmarks, template: Template | None = None) -> Crop:
    """The face of `landmarks` brought onto `template`: upright, centred, size by the template."""
    template = template or Template()
    matrix = similarity(landmarks.points, template.points)
    own = Landmarks(transform(landmarks.points, matrix))
    return Crop(resample(image.pixels, matrix, template.size), matrix, own)
