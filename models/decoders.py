"""One decoder per person: latent in, that person's face out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Channels at 8, 16, 32 and 64 px, and whether 16 and 32 px get a residual block."""

    latent_channels: int = 128
    channels: tuple[int, int, int, int] = (160, 96, 64, 32)
    residual: bool = True


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
    """Latent (N, C, 4, 4) -> RGB logits (N, 3, 64, 64); `torch.sigmoid` of them is the face in 0..1.

    No skip connections from the encoder: they would leak the source's identity.
    """

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
        self.to_rgb = nn.Conv2d(at64, 3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        rgb: Tensor = self.to_rgb(self.blocks(latent))
        return rgb
