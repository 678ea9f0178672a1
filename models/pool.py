"""A rolling pool of encoded variants, so that what is frozen is paid for once in several updates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.augment import AugmentConfig, augment

Encode = Callable[[Tensor], Tensor]
"""RGB (N, 3, 64, 64) in 0..255 -> what the trained part of the encoder starts from."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """One refill: the `number` fixes its randomness, `place` and `count` say which slots it filled."""

    number: int
    place: int
    count: int
    config: AugmentConfig


@dataclass(slots=True, eq=False)
class Pool:
    """`capacity` augmented variants of `crops`, kept as encodings and truth.

    Every `refresh(k)` replaces the k oldest by new variants; `draw(n)` takes n at random. With
    k = n / reuse each variant is used `reuse` times on average, spread over the pool's lifetime.
    All randomness is a function of `seed` and a counter, and `state()` is a few numbers: a resumed run
    makes the same variants again and goes on with the very data that it would have seen.
    """

    crops: Tensor
    encode: Encode
    size: int
    capacity: int
    seed: str
    refreshes: int = 0
    draws: int = 0
    oldest: int = 0
    recent: list[Refresh] = field(default_factory=list)
    """The refreshes that the present variants come from, oldest first."""
    encodings: Tensor | None = None
    truths: Tensor | None = None

    def fill(self, config: AugmentConfig) -> None:
        """Fills the whole pool anew."""
        for place in range(0, self.capacity, 64):
            self.refresh(min(64, self.capacity - place), config)

    def refresh(self, count: int, config: AugmentConfig) -> None:
        """Replaces the `count` oldest variants."""
        self.refreshes += 1
        made = Refresh(self.refreshes, self.oldest, count, config)
        self._make(made)
        self.oldest = (self.oldest + count) % self.capacity
        self.recent.append(made)
        while sum(r.count for r in self.recent[1:]) >= self.capacity:
            self.recent.pop(0)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Encodings (count, ...) and truth (count, 3, 64, 64) in 0..1."""
        if self.encodings is None or self.truths is None:
            raise RuntimeError("fill() the pool before drawing from it")
        self.draws += 1
        places = self._random(self._generator("draw", self.draws), self.capacity, count)
        return self.encodings[places], self.truths[places].float() / 255

    def groups(self, count: int, of: int) -> tuple[Tensor, Tensor]:
        """`of` random variants `count` times, anew after each draw: encodings (count, of, ...) and truths."""
        if self.encodings is None or self.truths is None:
            raise RuntimeError("fill() the pool before drawing from it")
        places = self._random(self._generator("means", self.draws), self.capacity, count * of).view(count, of)
        return self.encodings[places].float(), self.truths[places]

    def state(self) -> dict[str, Any]:
        """Counters and the recipe of the present variants, for a checkpoint."""
        recent = [asdict(r) for r in self.recent]
        return {"refreshes": self.refreshes, "draws": self.draws, "oldest": self.oldest, "recent": recent}

    def restore(self, state: dict[str, Any]) -> None:
        """Makes the variants of `state()` again."""
        self.refreshes, self.draws, self.oldest = state["refreshes"], state["draws"], state["oldest"]
        self.recent = [Refresh(**(r | {"config": AugmentConfig(**r["config"])})) for r in state["recent"]]
        for refresh in self.recent:
            self._make(refresh)

    @torch.no_grad()
    def _make(self, refresh: Refresh) -> None:
        generator = self._generator("refresh", refresh.number)
        chosen = self._random(generator, len(self.crops), refresh.count)
        variants, truths = augment(self.crops[chosen], self.size, refresh.config, generator)
        encodings = self.encode(variants)
        if self.encodings is None or self.truths is None:
            self.encodings = encodings.new_zeros(self.capacity, *encodings.shape[1:])
            self.truths = truths.new_zeros(self.capacity, *truths.shape[1:], dtype=torch.uint8)
        places = (torch.arange(refresh.count) + refresh.place) % self.capacity
        self.encodings[places] = encodings
        self.truths[places] = truths.round().clamp(0, 255).to(torch.uint8)

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed}/{purpose}/{number}".encode()).digest()
        return torch.Generator(self.crops.device).manual_seed(int.from_bytes(digest[:4], "big"))

    @staticmethod
    def _random(generator: torch.Generator, below: int, count: int) -> Tensor:
        return torch.randint(below, (count,), generator=generator, device=generator.device)


@torch.no_grad()
def lean(encodings: Tensor) -> Tensor:
    """bfloat16 inside autocast, else as it is: what a pool keeps."""
    device = encodings.device.type
    return encodings.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else encodings
