"""Latents of a person as if somebody else had the same pose and light: what a decoder learns to overlook.

A decoder sees its own person's latents in training and other people's when it swaps. The longer it trains,
the more of a source's own face it draws (the identity leak grows), most of all where source and target
differ most. Means over several photos tell the one person from the others, as pose and light cancel out.
What they do not cancel is the light that all photos of a set have in common: renders are lit by a sky, press
photos by a flash. A decoder that learns to overlook that too gives back less of a source's light, so the
part of the difference that goes with shading stays behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.pool import Pool

GROUP = 16
"""Photos in a mean: of 4, light and pose did not cancel out."""
SHARE = 0.6
"""Of the latents that are moved; the others stay as they are, for the person's own details."""
CELLS = 4
"""Shading is told by so many parts of the face's middle, across and down."""
RIDGE = 1e-3


def shading(faces: Tensor) -> Tensor:
    """(N, 3, size, size) -> (N, CELLS * CELLS): how much brighter than the whole each part of the face is."""
    size = faces.shape[-1]
    grey = faces[..., size // 4 : size * 7 // 8, size // 5 : size * 4 // 5].float().mean(dim=1)
    cells = nn.functional.adaptive_avg_pool2d(grey, CELLS).flatten(1)
    return cells / cells.mean(dim=1, keepdim=True).clamp_min(1e-3) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Relight:
    """What shading does to a latent on the whole: least squares over many people's faces."""

    slope: Tensor
    """(CELLS * CELLS, C, h, w)"""

    @classmethod
    def fit(cls, latents: Tensor, shadings: Tensor) -> Relight:
        """Of latents (M, C, h, w) and the shadings (M, CELLS * CELLS) of the same faces."""
        x, y = shadings.double(), latents.flatten(1).double()
        x, y = x - x.mean(dim=0), y - y.mean(dim=0)
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        slope = torch.linalg.solve(x.T @ x / len(x) + RIDGE * eye, x.T @ y / len(x))
        return cls(slope.float().view(-1, *latents.shape[1:]))

    def __call__(self, latents: Tensor, change: Tensor) -> Tensor:
        """Latents (N, C, h, w) as if their faces' shadings were other by `change` (N, CELLS * CELLS)."""
        moved: Tensor = latents + torch.tensordot(change, self.slope, dims=1)
        return moved


class Estranger:
    """Moves one person's latents towards everybody's, their light excepted, which is fitted once in a run."""

    def __init__(self, strength: float, seed: int) -> None:
        self.strength, self.seed = strength, seed
        self.relight: Relight | None = None

    def __call__(self, latent: Tensor, own: Pool, everybody: Pool, step: int) -> Tensor:
        """`latent` (N, C, h, w) of the person in the pool `own`, for the step of that number."""
        (mean, own_light), (others, light) = (_means(pool, len(latent)) for pool in (own, everybody))
        if self.relight is None:
            latents, truths = everybody.groups(everybody.capacity, 1)
            self.relight = Relight.fit(latents[:, 0], shading(truths[:, 0]))
        others = self.relight(others, own_light - light)
        generator = torch.Generator(latent.device).manual_seed(self.seed + step)
        return estranged(latent, mean, others, self.strength, generator)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it."""
        return {} if self.relight is None else {"relight": self.relight.slope}

    def restore(self, training: dict[str, Any]) -> None:
        """As `state` said."""
        if "relight" in training:
            self.relight = Relight(training["relight"])


def _means(pool: Pool, count: int) -> tuple[Tensor, Tensor]:
    """Latents (count, C, h, w) and shadings (count, CELLS * CELLS), each the mean over GROUP photos."""
    latents, truths = pool.groups(count, GROUP)
    lights = shading(truths.flatten(0, 1)).view(count, GROUP, -1)
    return latents.mean(dim=1), lights.mean(dim=1)


def estranged(
    latent: Tensor, own: Tensor, others: Tensor, strength: float, generator: torch.Generator
) -> Tensor:
    """`latent` (N, C, h, w) moved by 0..`strength` of the way from `own` to `others`, of the same shape.

    Latents come out of a ReLU, so what falls below zero is cut.
    """
    n, device = len(latent), generator.device
    share = torch.rand(n, 1, 1, 1, generator=generator, device=device) * strength
    moved = torch.rand(n, 1, 1, 1, generator=generator, device=device) < SHARE
    return torch.relu(latent + share * moved * (others - own))
