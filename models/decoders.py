"""One decoder per person: latent in, that person's face out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.tone import TONES, gains


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Channels at 8, 16, 32 and 64 px, and whether 16 and 32 px get a residual block.

    A toneless face reaches from 0 to `reach`: the lit side is brighter than the mean.
    """

    latent_channels: int = 128
    channels: tuple[int, int, int, int] = (160, 96, 64, 32)
    residual: bool = True
    mask: bool = True
    reach: float = 2.0


class Upscale(nn.Module):
    """(N, inputs, h, w) -> (N, outputs, 2h, 2w): sub-pixel convolution (Shi et al. 2016).

    ReLU and not LeakyReLU: it fuses into int8 convolutions.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)
        nn.init.kaiming_normal_(self.convolution.weight, nonlinearity="relu")
        with torch.no_grad():  # the four sub-pixels start equal: no checkerboard (Aitken et al. 2017)
            weight = self.convolution.weight
            weight.copy_(weight[::4].repeat_interleave(4, dim=0))
            self.convolution.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(nn.functional.relu(self.convolution(x)), 2)


class Residual(nn.Module):
    """(N, C, h, w) -> the same shape; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(nn.functional.relu(self.first(x)))
        return nn.functional.relu(x + inner)


class Decoder(nn.Module):
    """Latent (N, C + 3, 4, 4) -> (N, 4, 64, 64) in 0..1: RGB in the source's tone, and a mask.

    The tone is clamped to the range that this person was seen in, so that a dark face on a bright
    photo becomes a brightly lit dark face and not a pale one. The mask is high where the face can be
    trusted and low where the background is. No skip connections: they would leak the identity.
    """

    low: Tensor
    high: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        at8, at16, at32, at64 = config.channels
        blocks: list[nn.Module] = [Upscale(config.latent_channels, at8), Upscale(at8, at16)]
        blocks += [Residual(at16)] if config.residual else []
        blocks += [Upscale(at16, at32)]
        blocks += [Residual(at32)] if config.residual else []
        blocks += [Upscale(at32, at64)]
        self.blocks = nn.Sequential(*blocks)
        self.to_rgb = nn.Conv2d(at64, 4 if config.mask else 3, 3, padding=1)
        self.register_buffer("low", torch.full((TONES,), -1e3))
        self.register_buffer("high", torch.full((TONES,), 1e3))

    def relative(self, latent: Tensor) -> tuple[Tensor, Tensor | None]:
        """The toneless face (N, 3, 64, 64) in 0..reach, float32, and the mask's logits (N, 1, 64, 64).

        `latent` (N, C, 4, 4) comes without the planes of the tone. This is what training compares.
        """
        planes = self.to_rgb(self.blocks(latent)).float()
        return torch.sigmoid(planes[:, :3]) * self.config.reach, planes[:, 3:] if self.config.mask else None

    def forward(self, latent: Tensor) -> Tensor:
        tone = torch.minimum(torch.maximum(latent[:, -TONES:, 0, 0], self.low), self.high)
        face, mask = self.relative(latent[:, :-TONES])
        rgb = (face * gains(tone)).clamp(0, 1)
        return rgb if mask is None else torch.cat([rgb, torch.sigmoid(mask)], dim=1)

    @torch.no_grad()
    def fit_tones(self, tones: Tensor, outside: float = 0.04) -> None:
        """Sets the range to that of the person's own photos (N, 3), without its extremes."""
        self.low.copy_(torch.quantile(tones, outside, dim=0))
        self.high.copy_(torch.quantile(tones, 1 - outside, dim=0))
