"""Tone: a face's exposure and colour, taken off before encoding and given back by the decoder.

Absolute brightness is skin as much as light. A decoder for dark skin that meets a bright latent of a
pale source breaks into patches (issue 2), and one that must guess the exposure gets every grey level
wrong. So the encoder sees faces of one tone only, and the tone travels beside the latent as three
numbers that each identity's decoder clamps to what it was seen in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceswap.alignment import Template

TONES = 3
MIDDLE = 0.45
"""Mean of every channel over a face without tone, as a share of white."""
DARKEST = 4 / 255
FACE_CENTRE, FACE_RADII = (0.5, 0.58), (0.21, 0.24)
"""From eyes to mouth, in shares of the crop: on a turned head a wider ellipse would measure background."""


class ToneMeter(nn.Module):
    """Measures, removes and returns the tone of faces (N, 3, size, size) in 0..1.

    A tone (N, 3) is log exposure (mean of the three log means), log red and log blue less that.
    With `enabled` False every face has the same tone, and removing it changes nothing.
    """

    weights: Tensor

    def __init__(self, template: Template | None = None, *, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled
        self.register_buffer("weights", _face(template or Template()), persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, size, size) -> tone (N, 3), always float32."""
        if not self.enabled:
            return rgb.new_zeros(rgb.shape[0], TONES, dtype=torch.float32) + _neutral(rgb.device)
        means = (rgb.float() * self.weights).sum(dim=(2, 3)).clamp_min(DARKEST)  # (N, 3)
        logs = torch.log(means)
        exposure = logs.mean(dim=1, keepdim=True)
        return torch.cat([exposure, logs[:, :1] - exposure, logs[:, 2:] - exposure], dim=1)

    def remove(self, rgb: Tensor, tone: Tensor) -> Tensor:
        """Every channel's mean over the face becomes MIDDLE; highlights may pass 1."""
        return rgb.float() / gains(tone)


def gains(tone: Tensor) -> Tensor:
    """(N, 3) -> (N, 3, 1, 1): what a face without tone is multiplied by to have this one."""
    exposure, red, blue = tone[:, :1], tone[:, 1:2], tone[:, 2:]
    logs = torch.cat([exposure + red, exposure - red - blue, exposure + blue], dim=1)
    return torch.exp(logs)[:, :, None, None] / MIDDLE


def _neutral(device: torch.device) -> Tensor:
    """The tone whose gains are 1."""
    return torch.tensor([MIDDLE, 1.0, 1.0], device=device).log()


def _face(template: Template) -> Tensor:
    """(1, 1, size, size) weights with sum 1: the face, with an edge of two pixels or so."""
    axis = (torch.arange(template.size, dtype=torch.float32) + 0.5) / template.size
    x, y = (axis - FACE_CENTRE[0]) / FACE_RADII[0], (axis - FACE_CENTRE[1]) / FACE_RADII[1]
    inside = torch.sigmoid((1 - (x[None, :].square() + y[:, None].square()).sqrt()) * 20)
    return (inside / inside.sum()).view(1, 1, template.size, template.size)
