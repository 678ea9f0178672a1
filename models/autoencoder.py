"""The shared encoder: VGG19 and a bottleneck too narrow for the source's identity to slip through."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faceswap.faces import CROP_SIZE
from models.tone import TONES, ToneMeter
from models.vgg19 import VGG19

LATENT_SIDE = 4


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """What a checkpoint needs to rebuild the encoder."""

    layer: str = "block4_conv1"
    squeezed: int = 128
    strided: int = 160
    width: int = 512
    latent_channels: int = 128
    normalise_tone: bool = True
    instance_norm: bool = False
    """Features less their mean over space, by their deviation, as AdaIN's first half (ablation only)."""

    @property
    def planes(self) -> int:
        """Channels of the latent as it leaves the encoder: the face's, and three of its tone."""
        return self.latent_channels + TONES


class Bottleneck(nn.Module):
    """Features (N, C, 8, 8) -> latent (N, latent_channels, 4, 4) through `width` numbers.

    Features of other layers are 16 or 4 px wide.

    relu4_1 of a 64x64 picture holds 32,768 numbers for 12,288 pixels: without a squeeze a decoder
    can copy the source (issue 2; faceswap's "Original" squeezes to 1,024). The vector is
    pixel-normalised (Karras et al. 2018), so its length, mostly contrast, carries nothing.
    """

    def __init__(self, features: int, config: EncoderConfig) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(features) if config.instance_norm else nn.Identity()
        self.latent = (config.latent_channels, LATENT_SIDE, LATENT_SIDE)
        self.squeeze = nn.Conv2d(features, config.squeezed, 1)
        side = CROP_SIZE // 2 ** (int(config.layer[5]) - 1)  # VGG19 halves it once for each block
        self.stride = nn.Conv2d(config.squeezed, config.strided, 3, stride=side // LATENT_SIDE, padding=1)
        self.narrow = nn.Linear(config.strided * LATENT_SIDE**2, config.width)
        self.widen = nn.Linear(config.width, config.latent_channels * LATENT_SIDE**2)

    def forward(self, features: Tensor) -> Tensor:
        x = nn.functional.relu(self.squeeze(self.norm(features)))
        x = nn.functional.relu(self.stride(x))  # (N, strided, 4, 4)
        x = self.narrow(x.flatten(1)).float()  # (N, width)
        x = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-6)
        return nn.functional.relu(self.widen(x)).reshape(-1, *self.latent)


class Encoder(nn.Module):
    """RGB (N, 3, 64, 64) in 0..255 -> latent (N, latent_channels + 3, 4, 4).

    The last three planes are constants: the tone that was taken off (models/tone.py).
    """

    scale: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.meter = ToneMeter(enabled=config.normalise_tone)
        self.vgg = VGG19(config.layer)
        self.bottleneck = Bottleneck(self.vgg.channels, config)
        # relu4_1 is large (mean 8,000, up to 250,000) and training diverges on it unscaled
        self.register_buffer("scale", torch.ones(1, self.vgg.channels, 1, 1))

    def features(self, rgb: Tensor) -> Tensor:
        """The frozen part: scaled VGG19 features (N, C, 8, 8) of the toneless face. Training caches these."""
        flat = self.meter.remove(rgb, self.meter(rgb / 255))
        features: Tensor = self.vgg(flat)
        return features * self.scale.to(features.dtype)

    def forward(self, rgb: Tensor) -> Tensor:
        return with_tone(self.bottleneck(self.features(rgb)), self.meter(rgb / 255))

    @torch.no_grad()
    def fit_scale(self, rgb: Tensor) -> None:
        """Sets `scale` so that every feature channel has unit deviation over `rgb` (N, 3, 64, 64)."""
        self.scale.fill_(1)
        deviation = torch.cat([self.features(part) for part in torch.split(rgb, 64)]).std(dim=(0, 2, 3))
        floor = 0.05 * deviation.median()  # a channel that hardly ever fires is not blown up to noise
        self.scale.copy_((1 / deviation.clamp_min(floor)).view(1, -1, 1, 1))


def with_tone(latent: Tensor, tone: Tensor) -> Tensor:
    """(N, C, h, w) and (N, 3) -> (N, C + 3, h, w)."""
    planes = tone[:, :, None, None].to(latent.dtype).expand(-1, -1, *latent.shape[2:])
    return torch.cat([latent, planes], dim=1)
