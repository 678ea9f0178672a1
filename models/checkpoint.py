"""A checkpoint: config and state in one file, written atomically, read without running its code."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceswap.signatures import first_line
from models.autoencoder import Encoder, EncoderConfig
from models.decoders import Decoder, DecoderConfig
from models.errors import CheckpointError
from models.tone import TONES

FORMAT = 2
UNIVERSAL = "universal"
"""The decoder of everybody: it teaches the bottleneck and every new person starts from a copy of it."""


@dataclass(slots=True, eq=False)
class Checkpoint:
    """Everything that export and resume need; `training` is the state of an unfinished run."""

    encoder: Encoder
    decoders: dict[str, Decoder]
    template: list[list[float]]
    facts: dict[str, Any]
    """seed, data, updates, minutes, losses, versions: goes into the manifest."""
    records: dict[str, dict[str, Any]]
    """identity -> licence and consent, from its folder's identity.json."""
    previews: dict[str, Tensor]
    """identity -> one training crop (3, 64, 64) uint8, decoded for the bundle's preview picture."""
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def identities(self) -> list[str]:
        return sorted(name for name in self.decoders if name != UNIVERSAL)

    def save(self, path: Path) -> None:
        """Whole or not at all, as `save_whole` says."""
        content = {
            "format": FORMAT,
            "encoder_config": dataclasses.asdict(self.encoder.config),
            "encoder": self.encoder.state_dict(),
            "decoder_configs": {n: dataclasses.asdict(d.config) for n, d in self.decoders.items()},
            "decoders": {n: d.state_dict() for n, d in self.decoders.items()},
            "template": self.template,
            "facts": self.facts,
            "records": self.records,
            "previews": self.previews,
            "training": self.training,
        }
        save_whole(content, path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Raises CheckpointError, with the reason, for anything that is no whole checkpoint of ours."""
        if path.is_dir():
            path = path / "checkpoint.pt"
        if not path.is_file():
            raise CheckpointError(f"no checkpoint at {path}; make one with: python -m models.train")
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises a dozen types for a damaged file
            raise CheckpointError(f"{path} cannot be read as a checkpoint: {type(error).__name__}") from error
        if not isinstance(content, dict) or content.get("format") not in {1, FORMAT}:
            raise CheckpointError(f"{path} is no faceswapd checkpoint of format 1 or {FORMAT}")
        try:
            if content["format"] == 1:
                _upgrade(content)
            return cls._of(content)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            reason = f"{type(error).__name__} {first_line(error)}"
            raise CheckpointError(f"{path} does not fit this version: {reason}") from error

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Checkpoint:
        encoder = Encoder(EncoderConfig(**content["encoder_config"]))
        encoder.load_state_dict(content["encoder"])
        decoders = {}
        for name, config in content["decoder_configs"].items():
            decoders[name] = Decoder(DecoderConfig(**config))
            decoders[name].load_state_dict(content["decoders"][name])
        keys = ("template", "facts", "records", "previews", "training")
        return cls(encoder, decoders, *(content[key] for key in keys))


def save_whole(content: dict[str, Any], path: Path) -> None:
    """torch.save to a neighbour file, then a rename: a crash leaves the old file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _upgrade(content: dict[str, Any]) -> None:
    """Format 1 knew no tone and no mask: its networks are rebuilt as they were."""
    content["encoder_config"]["normalise_tone"] = False
    for name, config in content["decoder_configs"].items():
        config |= {"mask": False, "reach": 1.0}
        tones = torch.full((TONES,), 1e3)
        content["decoders"][name] |= {"low": -tones, "high": tones}
    content["training"] = {}  # its optimiser's state does not fit
