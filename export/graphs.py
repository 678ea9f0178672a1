"""What a graph does beyond the network: uint8 NHWC pictures in and out, every conversion inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.autoencoder import Encoder
from models.decoders import Decoder


class EncoderGraph(nn.Module):
    """`image` (N, 64, 64, 3) uint8 RGB -> `latent` (N, C, 4, 4) float32, bottleneck included."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> Tensor:
        latent: Tensor = self.encoder(image.permute(0, 3, 1, 2).float())
        return latent


class DecoderGraph(nn.Module):
    """`latent` (N, C, 4, 4) float32 -> `face` (N, 64, 64, 3) uint8 RGB."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor) -> Tensor:
        rgb = torch.sigmoid(self.decoder(latent)) * 255  # the sigmoid keeps it within 0..255
        return rgb.round().to(torch.uint8).permute(0, 2, 3, 1)
