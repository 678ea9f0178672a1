"""The paper's networks: ImageNet's VGG19, frozen, and five decoders of one person's 449 photos.

What the paper says (section 3.2 and 4): the encoder is VGG19 with Chollet's Keras weights; five decoders
were trained on its embeddings of the same photos at 64x64 RGB; Adam, 3e-5, betas 0.4 and 0.999; batch 64
for 5000 epochs or 32 for 6000; the photos were not cropped; one decoder was too shallow and would not gain
from more training, two were not trained enough, two were decent.

What it does not say, and what stands here for it:
- where VGG19 is cut: relu4_1 (block4_conv1), the deepest layer of its reference 5 that still keeps places
  (512 x 8 x 8 for a 64x64 photo). Each channel is divided by its deviation over the training photos, as
  features of several thousand make training diverge.
- the layers of any decoder: see RECIPES. None has normalisation layers or dropout.
- the loss: mean absolute error, that of its reference 3; the decoders end in a sigmoid.
- which decoder had which batch and how early the two under-trained ones stopped: every decoder can be run
  with either batch; the two get a twentieth of the epochs of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.vgg19 import VGG19

LAYER = "block4_conv1"
LATENT_CHANNELS, LATENT_SIDE = 512, 8
LEARNING_RATE = 3e-5
BETAS = (0.4, 0.999)
PHOTOS = 449
EPOCHS = {64: 5000, 32: 6000}
"""Batch -> epochs: 2,245,000 and 2,694,000 image updates with 449 photos."""
UNDER_TRAINED = 1 / 20


class PaperEncoder(nn.Module):
    """RGB (N, 3, 64, 64) in 0..255 -> latent (N, 512, 8, 8), VGG19's relu4_1 with unit deviation."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.vgg = VGG19(LAYER)
        self.register_buffer("scale", torch.ones(1, LATENT_CHANNELS, 1, 1))
        self.requires_grad_(requires_grad=False)

    def forward(self, rgb: Tensor) -> Tensor:
        features: Tensor = self.vgg(rgb)
        return features * self.scale.to(features.dtype)

    @torch.no_grad()
    def fit_scale(self, rgb: Tensor) -> None:
        """Sets `scale` from photos (N, 3, 64, 64) in 0..255."""
        features = torch.cat([self.vgg(part) for part in torch.split(rgb, 64)])
        deviation = features.float().std(dim=(0, 2, 3))
        floor = 0.05 * deviation.median()  # a channel that hardly ever fires is not blown up to noise
        self.scale.copy_((1 / deviation.clamp_min(floor).clamp_min(1e-6)).view(1, -1, 1, 1))


class PaperDecoder(nn.Module):
    """Latent (N, 512, 8, 8) -> face (N, 3, 64, 64) in 0..1, float32. `name` is one of RECIPES.

    No skip connections. The sigmoid is in float32: under autocast its steps near 1 would be 1/256.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.layers = nn.Sequential(*RECIPES[name].layers())
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", mode=_mode(module))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():  # kaiming_normal_ of a layer before the sigmoid would saturate it
            last: Tensor = self.layers[-1].weight  # type: ignore[assignment]
            last.mul_(0.1)

    def forward(self, latent: Tensor) -> Tensor:
        return torch.sigmoid(self.layers(latent).float())


def _mode(module: nn.Module) -> Literal["fan_in", "fan_out"]:
    """torch counts a transposed convolution's inputs and outputs the other way round."""
    return "fan_out" if isinstance(module, nn.ConvTranspose2d) else "fan_in"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A decoder's layers, its part of the training, and what the paper's counterpart came to."""

    layers: Callable[[], list[nn.Module]]
    fate: str
    """too shallow, decent, or under-trained: the paper's words."""
    share: float = 1.0
    """Of the epochs."""


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]


def _shuffled(inputs: int, outputs: int) -> list[nn.Module]:
    """Sub-pixel convolution (Shi et al. 2016) to twice the side."""
    return [*_convolution(inputs, 4 * outputs), nn.PixelShuffle(2)]


def _transposed(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]


def _shallow() -> list[nn.Module]:
    """Two convolutions with a smooth stretch from 8x8 to 64x64 between: it cannot draw an edge."""
    stretch = nn.Upsample(scale_factor=8, mode="bilinear", align_corners=False)
    return [*_convolution(LATENT_CHANNELS, 32), stretch, nn.Conv2d(32, 3, 3, padding=1)]


def _mirror() -> list[nn.Module]:
    """VGG19 up to relu4_1 backwards, the decoder of reference 5 (Ledford, universal style transfer)."""
    at16 = [
        *_convolution(256, 256),
        *_convolution(256, 256),
        *_convolution(256, 256),
        *_convolution(256, 128),
    ]
    at32 = [*_convolution(128, 128), *_convolution(128, 64)]
    at64 = [*_convolution(64, 64), nn.Conv2d(64, 3, 3, padding=1)]
    double = [nn.Upsample(scale_factor=2) for _ in range(3)]
    return [*_convolution(512, 256), double[0], *at16, double[1], *at32, double[2], *at64]


def _subpixel() -> list[nn.Module]:
    """Three sub-pixel upscales, as decoders of faceswap have them (reference 3)."""
    return [*_shuffled(512, 128), *_shuffled(128, 64), *_shuffled(64, 32), nn.Conv2d(32, 3, 3, padding=1)]


def _strided() -> list[nn.Module]:
    """Three strided transposed convolutions (as in DCGAN)."""
    return [
        *_transposed(512, 128),
        *_transposed(128, 64),
        *_transposed(64, 32),
        nn.Conv2d(32, 3, 3, padding=1),
    ]


def _dense() -> list[nn.Module]:
    """All places through 256 numbers first, the squeeze of reference 1's light autoencoder; the only one."""
    places = LATENT_SIDE**2
    squeeze = [nn.Flatten(), nn.Linear(LATENT_CHANNELS * places, 256), nn.ReLU()]
    widen = [nn.Linear(256, 128 * places), nn.ReLU(), nn.Unflatten(1, (128, LATENT_SIDE, LATENT_SIDE))]
    upscales = [*_shuffled(128, 64), *_shuffled(64, 32), *_shuffled(32, 16)]
    return [*squeeze, *widen, *upscales, nn.Conv2d(16, 3, 3, padding=1)]


RECIPES: dict[str, Recipe] = {
    "shallow": Recipe(_shallow, "too shallow"),
    "mirror": Recipe(_mirror, "decent"),
    "subpixel": Recipe(_subpixel, "decent"),
    "strided": Recipe(_strided, "under-trained", UNDER_TRAINED),
    "dense": Recipe(_dense, "under-trained", UNDER_TRAINED),
}
"""In the places of Figure 6: top middle, top right, bottom left, bottom middle, bottom right."""
