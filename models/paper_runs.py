"""The folder of a paper run: encoder.pt, NAME.pt of each decoder, log.jsonl."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceswap.signatures import first_line
from models.checkpoint import save_whole
from models.errors import CheckpointError
from models.paper import BETAS, LAYER, LEARNING_RATE, RECIPES, PaperDecoder, PaperEncoder

FORMAT = "faceswapd paper 1"
ENCODER, LOG = "encoder.pt", "log.jsonl"


@dataclass(frozen=True, slots=True)
class PaperConfig:
    """What all decoders of a run share; a resumed run must have the same."""

    batch: int
    seed: int
    uncropped: bool
    photos: int
    photos_sha256: str
    layer: str = LAYER
    learning_rate: float = LEARNING_RATE
    betas: tuple[float, float] = BETAS


@dataclass(slots=True, eq=False)
class DecoderState:
    """One decoder's file: the weights, all that resuming needs, and what there is to show of it."""

    decoder: PaperDecoder
    optimizer: dict[str, Any] = field(default_factory=dict)
    updates: int = 0
    seconds: float = 0.0
    """Of training alone: no encoding, saving or measuring."""
    stages: dict[int, Tensor] = field(default_factory=dict)
    """Image updates -> some training photos as decoded then, uint8 (3, 3, 64, 64)."""
    results: dict[str, Any] = field(default_factory=dict)
    """Figures at the end: loss, ssim, psnr on training photos and on unseen ones."""


@dataclass(frozen=True, slots=True)
class PaperRun:
    """A run's folder; nothing is read or written before it is asked for."""

    folder: Path

    @property
    def decoders(self) -> list[str]:
        """Names of the decoders that have a file, in the order of Figure 6."""
        return [name for name in RECIPES if (self.folder / f"{name}.pt").is_file()]

    def exists(self) -> bool:
        return (self.folder / ENCODER).is_file()

    def save_encoder(self, encoder: PaperEncoder, origin: str, config: PaperConfig, shown: Tensor) -> None:
        """`origin`: where VGG19's weights came from; `shown`: the photos of `stages` as they are."""
        state = {name: value.cpu() for name, value in encoder.state_dict().items()}
        content = {
            "format": FORMAT,
            "encoder": state,
            "origin": origin,
            "config": asdict(config),
            "shown": shown,
        }
        save_whole(content, self.folder / ENCODER)

    def load_config(self) -> PaperConfig:
        config = self._load(ENCODER)["config"]
        return PaperConfig(**(config | {"betas": tuple(config["betas"])}))

    def load_encoder(self) -> PaperEncoder:
        encoder = PaperEncoder()
        encoder.load_state_dict(self._load(ENCODER)["encoder"])
        return encoder

    def load_shown(self) -> Tensor:
        """uint8 (3, 3, 64, 64): some training photos, those that `stages` are decoded from."""
        shown: Tensor = self._load(ENCODER)["shown"]
        return shown

    def encoder_origin(self) -> str:
        return str(self._load(ENCODER)["origin"])

    def save_decoder(self, state: DecoderState) -> None:
        content = {
            "format": FORMAT,
            "name": state.decoder.name,
            "decoder": state.decoder.state_dict(),
            "optimizer": state.optimizer,
            "updates": state.updates,
            "seconds": state.seconds,
            "stages": state.stages,
            "results": state.results,
            "torch": str(torch.__version__),
        }
        save_whole(content, self.folder / f"{state.decoder.name}.pt")

    def load_decoder(self, name: str) -> DecoderState:
        content = self._load(f"{name}.pt")
        decoder = PaperDecoder(name)
        try:
            decoder.load_state_dict(content["decoder"])
            keys = ("optimizer", "updates", "seconds", "stages", "results")
            return DecoderState(decoder, *(content[key] for key in keys))
        except (KeyError, RuntimeError) as error:
            reason = f"{type(error).__name__} {first_line(error)}"
            raise CheckpointError(
                f"{name}.pt in {self.folder} does not fit this version: {reason}"
            ) from error

    def forget(self, names: list[str]) -> None:
        """Removes these decoders and their part of the log; the encoder goes with the last one."""
        for name in names:
            (self.folder / f"{name}.pt").unlink(missing_ok=True)
            self.cut_log(name, 0)
        if not self.decoders:
            (self.folder / ENCODER).unlink(missing_ok=True)

    # ------------------------------------------------------------------ the log
    def log(self, name: str) -> list[dict[str, Any]]:
        """A decoder's rows, one an epoch: decoder, epoch, updates, seconds, loss, bad_steps."""
        return [row for row in self._rows() if row["decoder"] == name]

    def cut_log(self, name: str, updates: int) -> None:
        """Drops a decoder's rows after `updates`: what came after the last checkpoint runs again."""
        rows = [row for row in self._rows() if row["decoder"] != name or row["updates"] <= updates]
        path = self.folder / LOG
        if path.is_file():
            partial = path.with_name(LOG + ".partial")
            partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
            partial.replace(path)

    def _rows(self) -> list[dict[str, Any]]:
        path, rows = self.folder / LOG, []
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:  # the last line of a killed run
                continue
        return rows

    def _load(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            raise CheckpointError(
                f"no {name} in {self.folder}; make it with: python -m models.train --preset paper"
            )
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises a dozen types for a damaged file
            raise CheckpointError(f"{path} cannot be read as a checkpoint: {type(error).__name__}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise CheckpointError(f"{path} is no part of a paper run")
        return content
