"""Stand-ins that make training quick: a frozen part without VGG19, a judge that looks at colours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from faceswap.alignment import Template
from faceswap.faces import Pixels
from models.augment import AugmentConfig
from models.autoencoder import Encoder, EncoderConfig
from models.checkpoint import UNIVERSAL, Checkpoint
from models.decoders import Decoder, DecoderConfig
from models.judge import Embedding

SMALL_ENCODER = EncoderConfig(squeezed=8, strided=16, width=32, latent_channels=8)
SMALL_DECODER = DecoderConfig(latent_channels=8, channels=(16, 16, 8, 8))
AS_IT_IS = AugmentConfig(rotation=0, zoom=0, shift=0, warp=0, tone_share=0)
"""Nothing happens to a crop but the mirror."""


class Thumbnails(Encoder):
    """A real encoder whose frozen part gives 8x8 thumbnails instead of VGG19 features."""

    def __init__(self, config: EncoderConfig = SMALL_ENCODER) -> None:
        super().__init__(config)
        self.seen = 0

    def features(self, rgb: Tensor) -> Tensor:
        """(N, 3, 64, 64) in 0..255 -> (N, 512, 8, 8), the three planes of the toneless face in turn."""
        self.seen += len(rgb)
        flat = self.meter.remove(rgb, self.meter(rgb / 255))
        planes = nn.functional.avg_pool2d(flat, 8) / 128 - 1
        return planes.repeat(1, 171, 1, 1)[:, : self.vgg.channels]


class ColourJudge:
    """Who a face is by its colours in 16x8 places: a copy of a picture is its nearest neighbour."""

    name = "colours"

    def embed(self, crop: Pixels) -> Embedding:
        """(64, 64, 3) -> (128,)."""
        return np.asarray(crop.mean(axis=2).reshape(16, 4, 8, 8).mean(axis=(1, 3)).ravel() / 255)


def small_checkpoint(*names: str, seed: int = 0) -> Checkpoint:
    """One of small networks whose VGG19 is real and knows nothing; no file is needed for it."""
    torch.manual_seed(seed)
    return Checkpoint(
        encoder=Encoder(SMALL_ENCODER),
        decoders={name: Decoder(SMALL_DECODER) for name in (UNIVERSAL, *names)},
        template=[list(pair) for pair in Template().shares],
        facts={"preset": "best", "updates": 9, "encoder_weights": "none"},
        records={name: {"licence": "CC0-1.0"} for name in names},
        previews={name: torch.full((3, 64, 64), 90, dtype=torch.uint8) for name in names},
        training={"of": "an earlier run"},
    )


def quick_checkpoint(*names: str, seed: int = 0) -> Checkpoint:
    """`small_checkpoint` with an encoder that needs no time."""
    checkpoint = small_checkpoint(*names, seed=seed)
    encoder = Thumbnails()
    encoder.load_state_dict(checkpoint.encoder.state_dict())
    checkpoint.encoder = encoder
    return checkpoint


def small_networks(*names: str, seed: int = 0) -> tuple[Thumbnails, dict[str, Decoder]]:
    """A quick encoder, and small decoders of everybody and of each name."""
    torch.manual_seed(seed)
    return Thumbnails(), {name: Decoder(SMALL_DECODER) for name in (UNIVERSAL, *names)}
