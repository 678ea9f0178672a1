"""For the tests of export/: a checkpoint that was not trained, and the bundle made of it, both small."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.exporter import Request, export
from faceswap.alignment import Template
from faceswap.bundle import Bundle
from faceswap.faces import Pixels
from models.autoencoder import Encoder, EncoderConfig
from models.checkpoint import UNIVERSAL, Checkpoint
from models.dataset import centre, load_crops
from models.decoders import Decoder, DecoderConfig
from models.vgg19 import load_imagenet

RECORD = {
    "licence": "CC0-1.0",
    "consent": {"kind": "synthetic", "given_by": "nobody", "date": "2026-01-31", "purpose": "tests"},
}
DECODER = DecoderConfig(channels=(24, 16, 12, 8))


@pytest.fixture(scope="session")
def faces(examples: Path) -> Pixels:
    """(8, 64, 64, 3) real aligned faces."""
    files = sorted((examples / "people" / "will").glob("*.jpg"))[::60][:8]
    return np.ascontiguousarray(centre(load_crops(files)).permute(0, 2, 3, 1).numpy())


@pytest.fixture(scope="session")
def checkpoint(faces: Pixels) -> Checkpoint:
    """Real VGG19 weights, the rest as it comes: amara, will, yuna. Not to be changed: see `changed`."""
    torch.manual_seed(0)
    names = ("amara", "will", "yuna")
    encoder = Encoder(EncoderConfig())
    origin = load_imagenet(encoder.vgg)
    pictures = torch.from_numpy(faces).permute(0, 3, 1, 2).float()
    encoder.fit_scale(pictures)
    return Checkpoint(
        encoder=encoder,
        decoders={name: Decoder(DECODER) for name in (UNIVERSAL, *names)},
        template=[list(pair) for pair in Template().shares],
        facts={
            "encoder_weights": origin,
            "crops": dict.fromkeys(names, 8),
            "updates": 40,
            "loss": float("nan"),
            "config": {"seed": 7, "betas": (0.5, 0.99)},
        },
        records={name: dict(RECORD) for name in names},
        previews={name: pictures[number].byte() for number, name in enumerate(names)},
    )


def changed(checkpoint: Checkpoint, **parts: Any) -> Checkpoint:
    """A checkpoint with other parts; the rest is shared."""
    return replace(checkpoint, **parts)


@pytest.fixture(scope="session")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of amara and will. Not to be changed: see `folder`."""
    return export(
        checkpoint, tmp_path_factory.mktemp("export") / "small", Request("small", ["amara", "will"])
    )


@pytest.fixture
def folder(exported: Bundle, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(exported.folder, tmp_path / "small"))
