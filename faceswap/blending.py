"""The swapped face back into the photo: feathered ellipse, matched colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from faceswap.alignment import invert, transform
from faceswap.faces import CROP_SIZE, Crop, Image, Matrix, Pixels

Mask = npt.NDArray[np.float32]
"""(H, W), 0 keeps the photo, 1 shows the face."""

_CENTRE, _RADII = (0.5, 0.55), (0.37, 0.44)  # x, y as shares of the side: cheek to cheek, brow to chin
_FEATHER = 0.3
"""Width of the fade as a share of the radius."""
_LEAN = 0.6
"""A nose that points one way shows more cheek on the other: the ellipse moves by this share of `turn`."""
_CORE = 0.9
"""Colours are compared where the mask is above this: hair and background near the fade are no skin."""
_GAINS = (0.6, 1.6)
"""Bounds of the contrast change: a flat face has no contrast that could be matched."""
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601


def feathered_ellipse(size: int = CROP_SIZE, turn: float = 0.0) -> Mask:
    """(size, size) mask of the face in an aligned crop: 1 inside, a smooth fade, 0 on the border.

    `turn` is how far the nose lies right of the eyes' middle, as a share of the crop's side.
    """
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    lean = float(np.clip(_LEAN * turn, -0.1, 0.1))
    x, y = (steps - _CENTRE[0] + lean) / _RADII[0], (steps - _CENTRE[1]) / _RADII[1]
    fade = np.clip((1 - np.hypot(x[None, :], y[:, None])) / _FEATHER, 0, 1)
    return np.asarray(fade * fade * (3 - 2 * fade), dtype=np.float32)


def match_color(face: Pixels, reference: Pixels, mask: Mask) -> Pixels:
    """`face` (H, W, 3) with the colour and contrast of `reference` (H, W, 3), as seen inside `mask`.

    Light and skin tone then fit the neck and ears that stay the photo's own. The mean is matched
    per channel of RGB, the contrast by luma alone: three gains would turn shadows into hues.
    """
    core = mask > _CORE
    if not core.any():
        return face
    inner, wanted = face[core].astype(np.float32), reference[core].astype(np.float32)  # (n, 3)
    # One grey level more on both sides: what is nearly flat has noise, no contrast.
    gain = (float((wanted @ _LUMA).std()) + 1) / (float((inner @ _LUMA).std()) + 1)
    matched = (face - inner.mean(axis=0)) * np.clip(gain, *_GAINS) + wanted.mean(axis=0)
    return np.asarray(np.clip(matched + 0.5, 0, 255), dtype=np.uint8)


def paste(photo: Image, crop: Crop, face: Pixels, turn: float = 0.0) -> Image:
    """`photo` with `face` (64, 64, 3), the swap of `crop`, set back where the crop was cut out.

    Pixels outside the mask stay bit-identical, and only the window that the crop covers is
    worked on. A crop that reaches beyond the photo is cut at its border. `turn` as in `feathered_ellipse`.
    """
    mask = feathered_ellipse(face.shape[0], turn)
    matched = match_color(face, crop.pixels, mask)
    window = _window(photo, crop.matrix, face.shape[0])
    pixels = photo.pixels.copy()
    if window is not None:
        left, top, right, bottom = window
        size, matrix = (right - left, bottom - top), crop.matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ (left, top)  # window -> crop
        cover = np.rint(mask * 255).astype(np.uint8)
        patch = PillowImage.fromarray(pixels[top:bottom, left:right])
        patch.paste(_warp(matched, matrix, size), mask=_warp(cover, matrix, size))
        pixels[top:bottom, left:right] = np.asarray(patch)
    return Image(pixels)


def _window(photo: Image, matrix: Matrix, size: int) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the crop's corners in the photo; None if they lie outside it."""
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], dtype=np.float64)
    corners = transform(corners, invert(matrix))
    left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)), (photo.width, photo.height)).astype(int)
    return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None


def _warp(pixels: Pixels, matrix: Matrix, size: tuple[int, int]) -> PillowImage.Image:
    """The crop's `pixels` drawn in a window of `size` (width, height); `matrix` maps window to crop."""
    picture = PillowImage.fromarray(pixels)
    shrink = int(np.hypot(matrix[0, 0], matrix[1, 0]))
    if shrink >= 2:  # a face smaller than the crop: average first, as interpolation alone would alias
        picture, matrix = picture.reduce(shrink), matrix / shrink
    method, filter_ = PillowImage.Transform.AFFINE, PillowImage.Resampling.BICUBIC
    return picture.transform(size, method, tuple(matrix.ravel()), filter_)
