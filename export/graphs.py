"""What a graph does beyond the network: uint8 NHWC pictures in and out, every conversion inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.autoencoder import Encoder
from models.decoders import Decoder


class EncoderGraph(nn.Module):
    """`image` (N, 64, 64, 3) uint8 RGB -> `latent` (N, C, 4, 4) float32, bottleneck and tone included."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.network = encoder

    def forward(self, image: Tensor) -> Tensor:
        latent: Tensor = self.network(image.permute(0, 3, 1, 2).float())
        return latent


class DecoderGraph(nn.Module):
    """`latent` (N, C, 4, 4) float32 -> `face` (N, 64, 64, planes) uint8.

    As many planes as the decoder has: 4 are RGB and a mask, 3 are RGB alone.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.network = decoder

    def forward(self, latent: Tensor) -> Tensor:
        planes: Tensor = self.network(latent).clamp(0, 1) * 255  # a uint8 wraps around, it never saturates
        return planes.round().to(torch.uint8).permute(0, 2, 3, 1)
