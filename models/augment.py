"""Variants of training crops: the same geometry for input and truth, a warp and a tone for the input only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Amounts are those of issue 2's recipe; angles in degrees, `warp` in pixels of a 64 px crop."""

    rotation: float = 10.0
    zoom: float = 0.05
    shift: float = 0.05
    warp: float = 0.6
    warp_points: int = 5
    light: float = 0.0
    """Deviation of the slope of a random side light, in log luma from the crop's middle to its edge."""
    tone_share: float = 0.85
    darkest: float = 0.12
    brightest: float = 0.6
    gamma: float = 0.35
    channel: float = 0.1


def augment(
    crops: Tensor, size: int, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Input and truth, both (N, 3, size, size) in 0..255, of uint8 crops (N, 3, S, S) with a margin.

    The crops lie on the generator's device.

    The tone of the input is jittered and that of the truth is not: absolute brightness is skin as
    much as light, and a decoder for dark skin that could read it from the latent breaks into
    patches on a pale source (measured for issue 2). The direction of light stays.
    """
    crops = crops.float()
    n, side = len(crops), crops.shape[-1]
    grid = _affine_grid(n, size, side, config, generator)
    truth = nn.functional.grid_sample(crops, grid, padding_mode="reflection", align_corners=False)
    light = _side_light(n, size, config, generator)
    if config.warp:
        offsets = _noise((n, 2, config.warp_points, config.warp_points), generator) * config.warp * 2 / side
        smooth = nn.functional.interpolate(offsets, size=(size, size), mode="bicubic", align_corners=True)
        grid = grid + smooth.permute(0, 2, 3, 1)
    warped = nn.functional.grid_sample(crops, grid, padding_mode="reflection", align_corners=False)
    return _tone((warped * light).clamp(0, 255), config, generator), (truth * light).clamp(0, 255)


def affine(
    crops: Tensor, points: Tensor, size: int, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Crops (N, 3, S, S) and their five points (N, 5, 2) in pixels, moved by the same random geometry.

    A mirror exchanges left and right: eyes and mouth corners keep their order from left to right.
    """
    side = crops.shape[-1]
    theta = _affine(len(crops), size, side, config, generator)
    grid = nn.functional.affine_grid(theta, [len(crops), 3, size, size], align_corners=False)
    faces = nn.functional.grid_sample(crops.float(), grid, padding_mode="reflection", align_corners=False)
    normal = points * 2 / side - 1  # the grid says where an output pixel comes from: solve for it
    moved = torch.linalg.solve(theta[:, :, :2], (normal - theta[:, None, :, 2]).transpose(1, 2)).transpose(
        1, 2
    )
    mirrored = (torch.linalg.det(theta[:, :, :2]) < 0).view(-1, 1, 1)
    moved = torch.where(mirrored, moved[:, [1, 0, 2, 4, 3]], moved)
    return faces, (moved + 1) * size / 2


def _affine_grid(n: int, size: int, side: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(n, size, size, 2) sampling positions."""
    theta = _affine(n, size, side, config, generator)
    return nn.functional.affine_grid(theta, [n, 3, size, size], align_corners=False)


def _affine(n: int, size: int, side: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(n, 2, 3), output to input in -1..1: rotation, zoom, shift and a mirror on every second one."""
    angle = _uniform(n, generator) * math.radians(config.rotation)
    zoom = 1 + _uniform(n, generator) * config.zoom
    mirror = torch.where(_uniform(n, generator) < 0, -1.0, 1.0)
    scale = zoom * size / side
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = (
        torch.stack([_uniform(n, generator), _uniform(n, generator)], dim=1) * config.shift * 2 * size / side
    )
    rows = [torch.stack([cosine * mirror, -sine], 1), torch.stack([sine * mirror, cosine], 1)]
    return torch.cat([torch.stack(rows, dim=1), shift[:, :, None]], dim=2)


def _side_light(n: int, size: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(n, 1, size, size) gains of a light from a random side, for input and truth: light is carried over."""
    if not config.light:
        return torch.ones(n, 1, 1, 1, device=generator.device)
    axis = (torch.arange(size, device=generator.device) + 0.5) * 2 / size - 1
    x, y = _noise((2, n, 1, 1, 1), generator) * config.light
    return torch.exp(x * axis.view(1, 1, 1, size) + y * axis.view(1, 1, size, 1))


def _tone(pictures: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Gamma, colour and exposure of (N, 3, H, W) in 0..255, for `tone_share` of the pictures.

    The mean after it is log-uniform between `darkest` and `brightest` (shares of white), whatever it
    was before: with the same gains for everybody, dark skin would never be seen as bright as pale skin.
    """
    n = len(pictures)
    chosen = (_uniform(n, generator) < 2 * config.tone_share - 1).float().view(n, 1, 1, 1)
    gamma = torch.exp(_uniform(n, generator) * config.gamma).view(n, 1, 1, 1)
    channel = torch.exp(_noise((n, 3, 1, 1), generator) * config.channel)
    toned = (pictures / 255).clamp(1e-3, 1).pow(gamma) * channel
    place = (_uniform(n, generator) + 1) / 2
    mean = config.darkest * (config.brightest / config.darkest) ** place
    quarter = pictures.shape[-1] // 4  # the middle of the crop is face
    middle = toned[..., quarter:-quarter, quarter:-quarter].mean(dim=(1, 2, 3))
    toned = (toned * (mean / middle).view(n, 1, 1, 1)).clamp(0, 1) * 255
    return pictures + chosen * (toned - pictures)


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    """(n,) in -1..1."""
    return torch.rand(n, generator=generator, device=generator.device) * 2 - 1


def _noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)
