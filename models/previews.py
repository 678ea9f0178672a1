"""A sheet of pictures: sources in the first column, each decoder's answer beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image as PillowImage
from torch import Tensor

from models.autoencoder import Encoder
from models.decoders import Decoder


@torch.no_grad()
def swap_tensor(encoder: Encoder, decoder: Decoder, rgb: Tensor) -> Tensor:
    """RGB (N, 3, 64, 64) in 0..255 -> swapped faces, same shape and range, float32."""
    with torch.autocast("cpu", enabled=False):
        faces: Tensor = decoder(encoder(rgb.float()))
        return faces[:, :3] * 255


def sheet(columns: list[Tensor]) -> PillowImage.Image:
    """Columns of pictures, each (N, 3, 64, 64) in 0..255, side by side."""
    rows = torch.stack([column.round().clamp(0, 255).to(torch.uint8) for column in columns], dim=1)
    n, m, c, h, w = rows.shape
    picture = rows.permute(0, 3, 1, 4, 2).reshape(n * h, m * w, c)
    return PillowImage.fromarray(picture.contiguous().cpu().numpy())


def save_previews(path: Path, encoder: Encoder, decoders: Mapping[str, Decoder], sources: Tensor) -> None:
    """Writes the sheet for `sources` (N, 3, 64, 64) in 0..255."""
    columns = [sources.float()]
    columns += [swap_tensor(encoder, decoders[name], sources) for name in sorted(decoders)]
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(columns).save(path)
