"""The swapped face back into the photo: feathered oval, the decoder's mask, matched colours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageFilter

from faceswap.alignment import invert, transform
from faceswap.faces import CROP_SIZE, Crop, Image, Matrix, Pixels

Mask = npt.NDArray[np.float32]
"""(H, W), 0 keeps the photo, 1 shows the face."""

_CENTRE, _RADII = (0.5, 0.55), (0.42, 0.44)  # x, y as shares of the side: temple to temple, brow to chin
_ROUND = 2.4
"""Exponent of a superellipse: with an ellipse's 2 the ends of the photo's own brows would stay."""
_TAPER, _CHEEKS = 0.08, 0.45
"""From the height of the cheeks downwards the oval gets narrower, by this much at the chin."""
_FAR, _TURNED = (0.09, 0.063), 0.12
"""The far side of a head that is turned by `_TURNED` ends sooner: by so much, and more at the chin."""
_FEATHER = 0.3
"""Width of the fade as a share of the radius."""
_RIM = (0.5, 0.8)
"""Shares of the radius between which it comes to matter that face and photo differ."""
_STRANGE, _COARSE = (18, 50), 4
"""Levels of difference, besides that of tone, from which on the rim gives way and at which it is gone, in
squares of so many crop pixels: the photo's brows are covered, its background is not."""
_LEAN = 0.6
"""A nose that points one way shows more cheek on the other: the oval moves by this share of `turn`."""
_DOUBT, _TRUST = 0.25, 0.75
"""A mask below the one shows nothing and above the other all: half a face over another is two faces."""
_BLUR = 1.5
"""Deviation in crop pixels that smooths a mask; the fade is about twice as wide and lies inside it."""
_CORE = 0.9
"""Colours are compared where the face covers more than this: hair and background near it are no skin."""
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601


_GAINS = (0.6, 1.6)
"""Bounds of the contrast change: a flat face has no contrast that could be matched."""
_RELIT_SHARE, _RELIT_LIMIT = 0.8, 3.5
"""How far of the way, in exposure, a face goes to the tone of the skin around it, and at most."""
_HUE_KEPT = 0.3
"""A face that is made twice as bright goes so much less of the way in hue: brown skin on a pale neck would
turn grey, and its lips violet."""
_HUE_SPREAD = 0.6
"""and its hues come so much nearer to that of its skin: what is a little bluer than brown skin, as lips are,
would be lavender on pale skin."""
_SHARPEN = 0.7
"""How much a face is sharpened that becomes twice as large or larger. Identities' unseen frames then have .84
of the real ones' gradients, and .66 without; more draws seams of light along edges."""


def feathered_oval(size: int = CROP_SIZE, turn: float = 0.0) -> Mask:
    """(size, size) mask of the face in an aligned crop: 1 inside, a smooth fade, 0 on the border.

    `turn` is how far the nose lies right of the eyes' middle, as a share of the crop's side.
    """
    return _smoothstep((1 - _distance(size, turn)) / _FEATHER)


def _distance(size: int, turn: float) -> Mask:
    """(size, size): 0 in the oval's middle, 1 on its border."""
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    x = steps[None, :] - _CENTRE[0] + float(np.clip(_LEAN * turn, -0.07, 0.07))
    y = np.abs(steps[:, None] - _CENTRE[1]) / _RADII[1]
    low = np.clip((steps[:, None] - _CHEEKS) / (1 - _CHEEKS), 0, 1)  # (size, 1): 0 above the cheeks
    far = np.where(x * turn > 0, min(1.0, abs(turn) / _TURNED), 0.0)  # (1, size)
    radius = _RADII[0] - _TAPER * low - _FAR[0] * far**2 - _FAR[1] * far * low
    return np.asarray(((np.abs(x) / radius) ** _ROUND + y**_ROUND) ** (1 / _ROUND), dtype=np.float32)


def _smoothstep(share: npt.NDArray[np.floating[Any]]) -> Mask:
    share = np.clip(share, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)


def smoothed(mask: Pixels) -> Mask:
    """A decoder's `mask` (H, W) with a soft inner edge; it stays 0 wherever the mask is."""
    firm = np.clip((mask.astype(np.float32) / 255 - _DOUBT) / (_TRUST - _DOUBT), 0, 1)
    levels = PillowImage.fromarray(np.rint(firm * 255).astype(np.uint8))
    blurred = np.asarray(levels.filter(ImageFilter.GaussianBlur(_BLUR)), dtype=np.float32) / 255
    return np.minimum(np.clip(2 * blurred - 1, 0, 1), firm)  # half of an edge's blur lies outside: cut it


def without_strangers(cover: Mask, face: Pixels, photo: Pixels, turn: float = 0.0) -> Mask:
    """`cover` (H, W) less its rim where `face` and `photo` (H, W, 3) show different things there.

    One has hair, a hand or background where the other has skin: the head of the one reaches further, and the
    face would end in a ghost of its own contour. Both in the same tone.
    """
    core = cover > _CORE
    if not core.any():
        return cover
    tone = face[core].mean(axis=0) - photo[core].mean(axis=0)  # (3,)
    one, other = (np.asarray(PillowImage.fromarray(rgb).reduce(_COARSE), np.float32) for rgb in (face, photo))
    difference = np.abs(one - other - tone).max(axis=2)
    strange = PillowImage.fromarray(_smoothstep((difference - _STRANGE[0]) / (_STRANGE[1] - _STRANGE[0])))
    rim = _smoothstep((_distance(cover.shape[0], turn) - _RIM[0]) / (_RIM[1] - _RIM[0]))
    again = strange.resize((cover.shape[1], cover.shape[0]), PillowImage.Resampling.BILINEAR)
    return np.asarray(cover * (1 - rim * np.asarray(again)), dtype=np.float32)


def match_color(face: Pixels, reference: Pixels, mask: Mask) -> Pixels:
    """`face` (H, W, 3) with the colour and contrast of `reference` (H, W, 3), as seen inside `mask`.

    For decoders that know nothing of the photo's tone. Light and skin tone then fit the neck and ears
    that stay the photo's own. The mean is matched per channel of RGB, the contrast by luma alone: three
    gains would turn shadows into hues.
    """
    core = mask > _CORE
    if not core.any():
        return face
    inner, wanted = face[core].astype(np.float32), reference[core].astype(np.float32)  # (n, 3)
    # One grey level more on both sides: what is nearly flat has noise, no contrast.
    gain = (float((wanted @ _LUMA).std()) + 1) / (float((inner @ _LUMA).std()) + 1)
    matched = (face - inner.mean(axis=0)) * np.clip(gain, *_GAINS) + wanted.mean(axis=0)
    return np.asarray(np.clip(matched + 0.5, 0, 255), dtype=np.uint8)


def relight(face: Pixels, reference: Pixels, mask: Mask) -> Pixels:
    """`face` (H, W, 3) multiplied, per channel, towards the mean of `reference` inside `mask`.

    A face that becomes darker goes all channels' way alike; one that becomes brighter keeps more of its hue.
    Where it fades out every pixel has the hue of its skin: a decoder's background ends in a coloured rim.
    For decoders that have the photo's tone, within what their person's skin can be. Light multiplies, so a
    dark face on a pale neck keeps its own shadows; added to, it would look washed out.
    """
    core = mask > _CORE
    if not core.any():
        return face
    mean, wanted = face[core].mean(axis=0) + 1, reference[core].mean(axis=0) + 1  # (3,)
    light = float((wanted @ _LUMA) / (mean @ _LUMA))
    hue_share = _RELIT_SHARE - _HUE_KEPT * min(max(math.log2(light), 0.0), 1.0)
    gain = light**_RELIT_SHARE * (wanted / mean / light) ** hue_share
    gain = np.clip(gain, 1 / _RELIT_LIMIT, _RELIT_LIMIT)
    lit = face * gain
    skin = mean * gain / float(mean * gain @ _LUMA)  # (3,), of luma 1
    share = np.maximum(_HUE_SPREAD * min(max(math.log2(light), 0.0), 1.0), 1 - mask)[..., None]
    lit += share * ((lit @ _LUMA)[..., None] * skin - lit)  # the luma stays
    return np.asarray(np.clip(lit + 0.5, 0, 255), dtype=np.uint8)


def sharpened(face: Pixels, enlarged: float) -> Pixels:
    """`face` (H, W, 3) with its luma's edges raised against the blur of enlarging it.

    `enlarged`: the photo's pixels for one of the face; up to 1 nothing is done. Hues stay as they are.
    """
    if enlarged <= 1:
        return face
    amount = _SHARPEN * min(enlarged - 1, 1.0)
    blurred = PillowImage.fromarray(face).filter(ImageFilter.GaussianBlur(1))
    edges = (face.astype(np.float32) - np.asarray(blurred)) @ _LUMA  # (H, W)
    return np.asarray(np.clip(face + amount * edges[..., None] + 0.5, 0, 255), dtype=np.uint8)


def paste(photo: Image, crop: Crop, face: Pixels, mask: Pixels | None = None, turn: float = 0.0) -> Image:
    """`photo` with `face` (64, 64, 3), the swap of `crop`, set back where the crop was cut out.

    Where the decoder's `mask` (64, 64) is 0 and outside the oval the photo stays bit-identical; only
    the window that the crop covers is worked on. A crop that reaches beyond the photo is cut at its
    border. `turn` as in `feathered_oval`.
    """
    window = _window(photo, crop.matrix, face.shape[0])
    pixels = photo.pixels.copy()
    if window is not None:
        pixels[window.rows, window.columns] = _patch(photo, window, crop, face, mask, turn)
    return Image(pixels)


@contextmanager
def pasted(
    photo: Image, crop: Crop, face: Pixels, mask: Pixels | None = None, turn: float = 0.0
) -> Iterator[Image]:
    """A block in which `photo` itself is what `paste` makes of it: no copy of a large picture is made."""
    window = _window(photo, crop.matrix, face.shape[0])
    if window is None:
        yield photo
        return
    part = photo.pixels[window.rows, window.columns]
    before = part.copy()
    part[:] = _patch(photo, window, crop, face, mask, turn)
    try:
        yield photo
    finally:
        part[:] = before


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a photo, in pixels, that a crop covers."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.right)


def _patch(
    photo: Image, window: _Window, crop: Crop, face: Pixels, mask: Pixels | None, turn: float
) -> Pixels:
    cover = feathered_oval(face.shape[0], turn)
    if mask is None:
        matched = match_color(face, crop.pixels, cover)
    else:
        cover = cover * smoothed(mask)
        matched = relight(face, crop.pixels, cover)
    cover = without_strangers(cover, matched, crop.pixels, turn)
    matched = sharpened(matched, 1 / math.hypot(crop.matrix[0, 0], crop.matrix[1, 0]))
    size, matrix = (window.right - window.left, window.bottom - window.top), crop.matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ (window.left, window.top)  # window -> crop
    levels = np.rint(cover * 255).astype(np.uint8)
    patch = PillowImage.fromarray(photo.pixels[window.rows, window.columns])
    patch.paste(_warp(matched, matrix, size), mask=_warp(levels, matrix, size))
    return np.asarray(patch)


def _window(photo: Image, matrix: Matrix, size: int) -> _Window | None:
    """Around the crop's corners; None if it lies outside the photo."""
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], dtype=np.float64)
    corners = transform(corners, invert(matrix))
    left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)), (photo.width, photo.height)).astype(int)
    return _Window(int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None


def _warp(pixels: Pixels, matrix: Matrix, size: tuple[int, int]) -> PillowImage.Image:
    """The crop's `pixels` drawn in a window of `size` (width, height); `matrix` maps window to crop."""
    picture = PillowImage.fromarray(pixels)
    shrink = int(np.hypot(matrix[0, 0], matrix[1, 0]))
    if shrink >= 2:  # a face smaller than the crop: average first, as interpolation alone would alias
        picture, matrix = picture.reduce(shrink), matrix / shrink
    method, filter_ = PillowImage.Transform.AFFINE, PillowImage.Resampling.BICUBIC
    return picture.transform(size, method, tuple(matrix.ravel()), filter_)
