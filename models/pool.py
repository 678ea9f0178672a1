"""A rolling pool of encoded variants, so that the frozen VGG19 is paid for once in several updates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.augment import AugmentConfig, augment
from models.autoencoder import Encoder


@dataclass(slots=True, eq=False)
class Pool:
    """`capacity` augmented variants of `crops`, kept as features and truth.

    Every `refresh(k)` replaces the k oldest by new variants; `draw(n)` takes n at random. With
    k = n / reuse each variant is used `reuse` times on average, spread over the pool's lifetime.
    All randomness comes from one generator, so a seed fixes the order of the data.
    """

    crops: Tensor
    encoder: Encoder
    size: int
    capacity: int
    generator: torch.Generator
    features: Tensor | None = None
    truths: Tensor | None = None
    oldest: int = 0

    def fill(self, config: AugmentConfig) -> None:
        """Fills the whole pool anew."""
        for _ in range(0, self.capacity, 64):
            self.refresh(min(64, self.capacity), config)
        self.oldest = 0

    def refresh(self, count: int, config: AugmentConfig) -> None:
        """Replaces the `count` oldest variants."""
        chosen = self._random(len(self.crops), count)
        variants, truths = augment(self.crops[chosen], self.size, config, self.generator)
        features = encode_features(self.encoder, variants)
        if self.features is None or self.truths is None:
            self.features = features.new_zeros(self.capacity, *features.shape[1:])
            self.truths = truths.new_zeros(self.capacity, *truths.shape[1:], dtype=torch.uint8)
        places = torch.arange(self.oldest, self.oldest + count) % self.capacity
        self.features[places] = features
        self.truths[places] = truths.round().clamp(0, 255).to(torch.uint8)
        self.oldest = (self.oldest + count) % self.capacity

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Features (count, C, 8, 8) and truth (count, 3, 64, 64) in 0..1."""
        if self.features is None or self.truths is None:
            raise RuntimeError("fill() the pool before drawing from it")
        places = self._random(self.capacity, count)
        return self.features[places], self.truths[places].float() / 255

    def _random(self, below: int, count: int) -> Tensor:
        generator = self.generator
        return torch.randint(below, (count,), generator=generator, device=generator.device)


@torch.no_grad()
def encode_features(encoder: Encoder, rgb: Tensor) -> Tensor:
    """The frozen features of `rgb` (N, 3, 64, 64) in 0..255; bfloat16 inside autocast, else float32."""
    features = encoder.features(rgb.contiguous(memory_format=torch.channels_last)).contiguous()
    low = torch.is_autocast_enabled(rgb.device.type)
    return features.to(torch.get_autocast_dtype(rgb.device.type)) if low else features
