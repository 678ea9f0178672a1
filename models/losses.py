"""How far a decoded face is from the true one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from faceswap.alignment import Template

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # Wang et al. 2004, for values in 0..1


def gaussian_window(size: int = 11, sigma: float = 1.5) -> Tensor:
    """(size,) weights that sum to 1; 11 and 1.5 are those of Wang et al. 2004."""
    x = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    weights = torch.exp(-x.square() / (2 * sigma**2))
    return weights / weights.sum()


TRUSTED_ERROR, TRUST_SLOPE, MASK_SHARE = 0.13, 0.03, 0.1
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Wang et al. 2004


def luma(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W)."""
    return (rgb * rgb.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def ssim_map(a: Tensor, b: Tensor, window: Tensor) -> Tensor:
    """Local structural similarity of `a` and `b` (N, C, H, W) in 0..1, same shape.

    Always in float32: under bf16 autocast the variances cancel and the map turns inf.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.float(), b.float()
        stack = torch.cat([a, b, a * a + b * b, a * b], dim=1)  # (N, 4C, H, W)
        mean_a, mean_b, square, product = _blur(stack, window).chunk(4, dim=1)
        means = mean_a * mean_b
        squares = mean_a.square() + mean_b.square()
        numerator = (2 * means + SSIM_C1) * (2 * (product - means) + SSIM_C2)
        return numerator / ((squares + SSIM_C1) * (square - squares + SSIM_C2))


def _blur(x: Tensor, window: Tensor) -> Tensor:
    """(N, C, H, W) blurred along both axes, edges repeated, as two products with a banded matrix.

    At 64 px that beats a depthwise convolution on a CPU several times.
    """
    size = x.shape[-1]
    reach = len(window) // 2
    columns = (torch.arange(size)[:, None] + torch.arange(-reach, reach + 1)[None]).clamp(0, size - 1)
    band = (
        window.new_zeros(size, size).scatter_add_(1, columns.to(window.device), window.repeat(size, 1)).to(x)
    )
    return band @ x @ band.T


def face_weights(template: Template) -> Tensor:
    """(1, 1, size, size) weights of the pixels: 1 in the face, falling to 0.1 outside, eyes x3, mouth x2."""
    size = template.size
    points = template.points
    centre = np.array([points[:2, 0].mean(), (points[:2, 1].mean() + points[3:, 1].mean()) / 2])
    weights = 0.1 + 0.9 * _bump(size, centre, 0.40 * size, 0.47 * size, sharpness=6)
    for eye in points[:2]:
        weights = weights + 2.0 * _bump(size, eye, 0.15 * size, 0.10 * size, sharpness=3)
    weights = weights + 1.0 * _bump(size, points[3:].mean(axis=0), 0.21 * size, 0.11 * size, sharpness=3)
    return weights.view(1, 1, size, size)


def _bump(size: int, centre: np.ndarray, radius_x: float, radius_y: float, sharpness: float) -> Tensor:
    """(size, size): 1 inside an ellipse, 0 outside, a soft edge between."""
    axis = torch.arange(size, dtype=torch.float32) + 0.5
    x, y = (axis - float(centre[0])) / radius_x, (axis - float(centre[1])) / radius_y
    distance = (x[None, :].square() + y[:, None].square()).sqrt()
    return torch.sigmoid((1 - distance) * sharpness * 2)


class ReconstructionLoss(nn.Module):
    """2 x L1 + (1 - SSIM of the luma), each weighted by `face_weights`, and a little for the mask.

    Faces are toneless (models/tone.py), so that an error counts by its share of the exposure (Weber's
    law): otherwise a dark face's details drown in SSIM's constants, L1 hardly sees them, and dark
    identities come out the least like themselves.

    Nobody tells the mask what is face. It learns where the decoder's own error is small: backgrounds
    cannot pass the bottleneck, so they are what the decoder gets wrong.

    `decoded` and `true` (N, 3, 64, 64), `mask` logits (N, 1, 64, 64) or None -> a scalar. SSIM of all
    three channels costs three times as much, a tenth of a training step, and colour is L1's business.
    """

    weights: Tensor
    window: Tensor

    def __init__(self, template: Template) -> None:
        super().__init__()
        self.register_buffer("weights", face_weights(template))
        self.register_buffer("window", gaussian_window())

    def forward(self, decoded: Tensor, true: Tensor, mask: Tensor | None = None) -> Tensor:
        weights = self.weights / self.weights.mean()
        error = (decoded - true).abs()
        dissimilar = ((1 - ssim_map(luma(decoded), luma(true), self.window)) * weights).mean()
        loss = 2 * (error * weights).mean() + dissimilar
        return loss if mask is None else loss + MASK_SHARE * self._doubt(error, mask)

    def _doubt(self, error: Tensor, mask: Tensor) -> Tensor:
        """How far the mask is from where the error, smoothed over 5 px, is small."""
        smooth = nn.functional.avg_pool2d(
            error.detach().mean(dim=1, keepdim=True), 5, 1, 2, count_include_pad=False
        )
        trusted = torch.sigmoid((TRUSTED_ERROR - smooth) / TRUST_SLOPE)
        return nn.functional.binary_cross_entropy_with_logits(mask, trusted)
