"""Whatever swaps faces, measured alike: a bundle, a checkpoint that was never exported, the peer."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from faceswap.alignment import Template
from faceswap.bundle import MANIFEST_NAME
from faceswap.precisions import Precision
from faceswap.swapper import Swapper
from models.checkpoint import Checkpoint
from models.errors import CheckpointError
from models.metrics import Faces
from models.peer import PEER_FILE, PeerCheckpoint
from models.previews import swap_tensor
from models.stored import weights_sha256

BATCH = 16


class Renderer(Protocol):
    """Gives source faces another identity's face."""

    @property
    def identities(self) -> tuple[str, ...]: ...

    @property
    def template(self) -> Template:
        """What the faces must be aligned to."""
        ...

    def swap(self, crops: Faces, identity: str) -> Faces:
        """(N, 64, 64, 3) uint8 RGB -> the same shape."""
        ...

    def fingerprint(self, identity: str) -> dict[str, str]:
        """Names the very weights that were measured."""
        ...


class BundleRenderer:
    """The graphs of a bundle, by the calls that serving makes."""

    def __init__(self, swapper: Swapper) -> None:
        self.swapper = swapper
        self.identities = swapper.identities
        crop = swapper.manifest.crop
        self.template = Template(crop.template, crop.size)

    def swap(self, crops: Faces, identity: str) -> Faces:
        swapper = self.swapper
        parts = [swapper.decode(swapper.encode(part), identity) for part in _parts(crops)]
        return np.concatenate(parts)

    def fingerprint(self, identity: str) -> dict[str, str]:
        return {"decoder_sha256": self.swapper.bundle.identity(identity).decoder.sha256}


class CheckpointRenderer:
    """The networks of a checkpoint, in float32; export refuses figures that were taken of these."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.encoder = checkpoint.encoder.to(self.device).eval()
        self.decoders = {n: checkpoint.decoders[n].to(self.device).eval() for n in checkpoint.identities}
        self.identities = tuple(checkpoint.identities)
        self.template = Template(tuple((float(x), float(y)) for x, y in checkpoint.template))

    def swap(self, crops: Faces, identity: str) -> Faces:
        decoder = self.decoders[identity]
        parts = [
            to_faces(swap_tensor(self.encoder, decoder, to_tensor(part).to(self.device)))
            for part in _parts(crops)
        ]
        return np.concatenate(parts)

    def fingerprint(self, identity: str) -> dict[str, str]:
        return {"weights_sha256": weights_sha256(self.decoders[identity])}


class PeerRenderer:
    """The peer's networks, in float32."""

    def __init__(self, checkpoint: PeerCheckpoint, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.network = checkpoint.network.to(self.device).eval()
        self.identities = tuple(checkpoint.identities)
        self.template = Template()

    @torch.no_grad()
    def swap(self, crops: Faces, identity: str) -> Faces:
        parts = [
            to_faces(self.network(to_tensor(part).to(self.device) / 255, identity) * 255)
            for part in _parts(crops)
        ]
        return np.concatenate(parts)

    def fingerprint(self, identity: str) -> dict[str, str]:
        return {"weights_sha256": weights_sha256(self.network.decoder(identity))}


def open_renderer(
    path: Path, device: torch.device | None = None, precision: Precision | str = Precision.AUTO
) -> Renderer:
    """A bundle's folder, a run's folder or its checkpoint, or the peer's; CheckpointError for anything else.

    `precision` chooses among a bundle's graphs. Raises a SwapError for a broken bundle, or one without those.
    """
    if (path / MANIFEST_NAME).is_file():
        return BundleRenderer(Swapper.open(path, "cpu", precision=precision))
    if path.name == PEER_FILE or (path / PEER_FILE).is_file():
        return PeerRenderer(PeerCheckpoint.load(path), device)
    if not path.exists():
        raise CheckpointError(f"there is no bundle folder, run or checkpoint at {path}")
    return CheckpointRenderer(Checkpoint.load(path), device)


def to_tensor(faces: Faces) -> Tensor:
    """(N, 64, 64, 3) uint8 -> (N, 3, 64, 64) float in 0..255."""
    return torch.from_numpy(faces).permute(0, 3, 1, 2).float()


def to_faces(rgb: Tensor) -> Faces:
    """(N, 3, 64, 64) in 0..255 -> (N, 64, 64, 3) uint8."""
    pixels = rgb.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    faces: Faces = pixels.contiguous().cpu().numpy()
    return faces


def _parts(crops: Faces) -> list[Faces]:
    return [crops[i : i + BATCH] for i in range(0, len(crops), BATCH)]
