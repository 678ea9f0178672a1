"""Latents of a person as if somebody else had the same pose and light: what a decoder learns to overlook.

A decoder sees its own person's latents in training and other people's when it swaps. The longer it trains,
the more of a source's own face it draws (the identity leak grows), most of all where source and target
differ most. Means over several photos tell the one person from the others, as pose and light cancel out.
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 16
"""Photos in a mean: of 4, light and pose did not cancel out."""
SHARE = 0.6
"""Of the latents that are moved; the others stay as they are, for the person's own details."""


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
