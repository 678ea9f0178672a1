"""The peer: the 64x64 network of deepfakes/faceswap's "Original", built from its published numbers.

Shared encoder: four 5x5 stride-2 convolutions (128, 256, 512, 1024, LeakyReLU 0.1), FC 1024, FC 4x4x1024,
one sub-pixel upscale to 512 at 8x8. One decoder a person: upscales to 256, 128, 64, a 5x5 convolution
to RGB, sigmoid. 69.7 M + 6.2 M parameters. Here to be compared with, never exported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceswap.signatures import first_line
from models.checkpoint import save_whole
from models.errors import CheckpointError

PEER_FILE = "peer.pt"
FORMAT = "peer 1"
SLOPE = 0.1
OTHERS = "universal"
"""The decoder of side A when that side is general faces; nobody may be called so (models/dataset.py)."""


class PeerUpscale(nn.Sequential):
    """(N, inputs, h, w) -> (N, outputs, 2h, 2w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        convolution = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)
        super().__init__(convolution, nn.LeakyReLU(SLOPE), nn.PixelShuffle(2))


class PeerEncoder(nn.Sequential):
    """RGB (N, 3, 64, 64) in 0..1 -> latent (N, 512, 8, 8)."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 128), (128, 256), (256, 512), (512, 1024)):
            layers += [nn.Conv2d(inputs, outputs, 5, stride=2, padding=2), nn.LeakyReLU(SLOPE)]
        layers += [nn.Flatten(), nn.Linear(4 * 4 * 1024, 1024), nn.Linear(1024, 4 * 4 * 1024)]
        super().__init__(*layers, nn.Unflatten(1, (1024, 4, 4)), PeerUpscale(1024, 512))


class PeerDecoder(nn.Sequential):
    """Latent (N, 512, 8, 8) -> RGB logits (N, 3, 64, 64); the sigmoid is taken in float32 outside."""

    def __init__(self) -> None:
        upscales = [PeerUpscale(512, 256), PeerUpscale(256, 128), PeerUpscale(128, 64)]
        super().__init__(*upscales, nn.Conv2d(64, 3, 5, padding=2))


class Peer(nn.Module):
    """One encoder for all, one decoder for each name; weights start He-uniform, biases at zero."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.encoder = PeerEncoder()
        # prefixed, or a person called `train` or `items` would meet torch's own names
        self.decoders = nn.ModuleDict({f"decoder:{name}": PeerDecoder() for name in names})
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, rgb: Tensor, name: str) -> Tensor:
        """RGB (N, 3, 64, 64) in 0..1 -> the face of `name`, same shape and range, float32."""
        return self.each(rgb, [name])[0]

    def each(self, rgb: Tensor, names: list[str]) -> list[Tensor]:
        """RGB (len(names) * N, 3, 64, 64), name after name -> a face (N, 3, 64, 64) of each.

        All are encoded in one batch, which is a fifth faster to train on a CPU.
        """
        latents = self.encoder(rgb).chunk(len(names))
        logits = [self.decoder(name)(latent) for name, latent in zip(names, latents, strict=True)]
        return [torch.sigmoid(each.float()) for each in logits]

    def decoder(self, name: str) -> nn.Module:
        return self.decoders[f"decoder:{name}"]

    @property
    def names(self) -> list[str]:
        return [key.removeprefix("decoder:") for key in self.decoders]


@dataclass(slots=True, eq=False)
class PeerCheckpoint:
    """The network, what is known of the run, and the state of an unfinished one."""

    network: Peer
    facts: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def identities(self) -> list[str]:
        return sorted(name for name in self.network.names if name != OTHERS)

    def save(self, path: Path) -> None:
        """Whole or not at all, as `save_whole` says."""
        content = {
            "format": FORMAT,
            "names": self.network.names,
            "network": self.network.state_dict(),
            "facts": self.facts,
            "training": self.training,
        }
        save_whole(content, path)

    @classmethod
    def load(cls, path: Path) -> PeerCheckpoint:
        """Raises CheckpointError, with the reason, for anything that is no whole checkpoint of the peer."""
        path = path / PEER_FILE if path.is_dir() else path
        if not path.is_file():
            raise CheckpointError(f"no peer at {path}; make one with: python -m models.peer_training")
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
            if content["format"] != FORMAT:
                raise CheckpointError(f"{path} is no peer of this version")
            with torch.device("meta"):
                network = Peer(content["names"])
            network.load_state_dict(content["network"], assign=True)
            return cls(network, content["facts"], content["training"])
        except CheckpointError:
            raise
        except Exception as error:  # torch raises a dozen types for a damaged file
            reason = f"{type(error).__name__} {first_line(error)}"
            raise CheckpointError(f"{path} cannot be read as a peer: {reason}") from error
