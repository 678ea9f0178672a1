"""python -m models.peer_training: the peer trained on the same photos, for the same time, on the same device.

Its own recipe: MAE of the whole crop, Adam 5e-5 (0.5, 0.99), batch 64, a random warp on the input,
rotation 10 degrees, zoom and shift 5 %, mirror. `--general` makes side A of other people's faces,
as in that method's pairs; without it the sides are the people themselves.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.augment import AugmentConfig, augment
from models.bars import progress_bar
from models.dataset import centre, load_general, load_people
from models.errors import CheckpointError, DivergedError, TrainingError
from models.peer import OTHERS, PEER_FILE, Peer, PeerCheckpoint
from models.previews import sheet
from models.trainer import supports_bf16

log = logging.getLogger("models.peer_training")
LEARNING_RATE, BETAS, EPSILON = 5e-5, (0.5, 0.99), 1e-7
BATCH = 64
SIZE = 64
WARP = AugmentConfig(rotation=10, zoom=0.05, shift=0.05, warp=2.0, warp_points=5, tone_share=0)
"""5 px of the 160 that it cuts out of 256 are 2 px at 64; no jitter of tone."""
LOG_STEPS = 50


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """The budget, in image updates or minutes; the rest is the method's own."""

    seed: int = 0
    updates: int | None = None
    minutes: float | None = None
    batch: int = BATCH


class PeerTrainer:
    """Every step shows each side its share of the batch; only time spent in steps counts."""

    def __init__(self, config: PeerConfig, network: Peer, crops: dict[str, Tensor], device: torch.device):
        self.config, self.device = config, device
        self.network = network.to(device)
        self.crops = {name: faces.to(device) for name, faces in crops.items()}
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=True
        )
        self.steps = self.images = 0
        self.seconds = 0.0
        self.loss = float("nan")

    def share_done(self) -> float:
        """0..1 of the budget; with both limits given the nearer one counts."""
        by_images = self.images / self.config.updates if self.config.updates else 0.0
        by_time = self.seconds / (60 * self.config.minutes) if self.config.minutes else 0.0
        return max(by_images, by_time)

    def step(self) -> float:
        """One update of encoder and all decoders; the mean absolute error, in shares of white."""
        started = time.monotonic()
        count = max(1, self.config.batch // len(self.crops))
        batches = [self._batch(name, count) for name in self.crops]
        warped = torch.cat([inputs for inputs, _ in batches])
        truths = [truth for _, truth in batches]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=supports_bf16(self.device)):
            faces = self.network.each(warped, list(self.crops))
        errors = [(face - truth).abs().mean() for face, truth in zip(faces, truths, strict=True)]
        loss = torch.stack(errors).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.loss = loss.item()  # waits for the device
        if self.loss != self.loss:
            raise DivergedError("the peer's loss is no number any more; resume from its last checkpoint")
        self.steps += 1
        self.images += count * len(self.crops)
        self.seconds += time.monotonic() - started
        return self.loss

    def record(self) -> dict[str, Any]:
        """For the log and a checkpoint."""
        return {"steps": self.steps, "images": self.images, "seconds": self.seconds, "loss": self.loss}

    def state(self) -> dict[str, Any]:
        """What a run goes on from, with the very data it would have seen."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "progress": self.record(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from `state()`. CheckpointError if the finished run left none."""
        try:
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generator"])
            for name, value in state["progress"].items():
                setattr(self, name, value)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                "the peer's checkpoint holds no state to resume from: its run was finished"
            ) from error

    def _batch(self, name: str, count: int) -> tuple[Tensor, Tensor]:
        """Warped input and truth (count, 3, 64, 64) in 0..1."""
        crops = self.crops[name]
        chosen = torch.randint(len(crops), (count,), generator=self.generator, device=self.device)
        warped, truth = augment(crops[chosen], SIZE, WARP, self.generator)
        return warped.clamp(0, 255) / 255, truth.clamp(0, 255) / 255


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        train_peer(options)
    except (TrainingError, OSError) as error:
        sys.stderr.write(f"models.peer_training: {error}\n")
        return 2
    return 0


def train_peer(options: argparse.Namespace) -> None:
    """The whole run: data, network, loop, checkpoint."""
    config = PeerConfig(options.seed, options.updates, options.minutes, options.batch)
    if config.updates is None and config.minutes is None:
        raise TrainingError("say how long to train: --updates IMAGES or --minutes MINUTES")
    if (options.out / PEER_FILE).exists() and not (options.resume or options.overwrite):
        raise CheckpointError(
            f"{options.out} already holds a peer; --resume it, --overwrite it, or choose another --out"
        )
    crops = peer_data(options.people, options.general)
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    )
    torch.manual_seed(config.seed)
    old = PeerCheckpoint.load(options.out) if options.resume else None
    if old is not None and sorted(old.network.names) != sorted(crops):
        raise CheckpointError(f"the peer has {sorted(old.network.names)}, the data {sorted(crops)}")
    trainer = PeerTrainer(config, old.network if old else Peer(list(crops)), crops, device)
    if old is not None:
        trainer.restore(old.training)
    facts = {
        "config": asdict(config),
        "crops": {name: len(faces) for name, faces in crops.items()},
        "device": str(device),
        "torch": str(torch.__version__),
    }
    loop(trainer, facts, options.out, options.save_minutes)


def peer_data(people: Path, general: list[Path]) -> dict[str, Tensor]:
    """Side -> crops uint8 (n, 3, 80, 80); the general faces, if any, are the first side."""
    sides = {OTHERS: load_general(general)} if general else {}
    return sides | {person.name: person.crops for person in load_people(people)}


def loop(trainer: PeerTrainer, facts: dict[str, Any], out: Path, save_minutes: float) -> None:
    """Trains until the budget is spent; log, previews and checkpoint go to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    saved = time.monotonic()
    form = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
    mode = "a" if trainer.steps else "w"
    done = int(1000 * min(trainer.share_done(), 1))
    with (
        (out / "log.jsonl").open(mode) as rows,
        progress_bar(total=1000, initial=done, bar_format=form) as bar,
    ):
        while trainer.share_done() < 1:
            trainer.step()
            if trainer.steps % 10 == 0:
                bar.n = int(1000 * min(trainer.share_done(), 1))
                rate = trainer.images / trainer.seconds
                bar.set_postfix_str(f"{trainer.images} images, {rate:.0f}/s, MAE {trainer.loss:.4f}")
            if trainer.steps % LOG_STEPS == 0 or trainer.share_done() >= 1:
                rows.write(json.dumps(trainer.record()) + "\n")
                rows.flush()
            if time.monotonic() - saved >= 60 * save_minutes:
                save(trainer, facts, out)
                saved = time.monotonic()
    save(trainer, facts, out)
    log.info("%s: %d images in %.1f min", out / PEER_FILE, trainer.images, trainer.seconds / 60)


def save(trainer: PeerTrainer, facts: dict[str, Any], out: Path) -> None:
    """The checkpoint, and a sheet of what the network makes of some faces that it trains on.

    A finished run leaves the optimiser's state out: that is two thirds of a file of over a gigabyte.
    """
    state = trainer.state() if trainer.share_done() < 1 else {}
    PeerCheckpoint(trainer.network, facts | trainer.record(), state).save(out / PEER_FILE)
    faces = torch.cat([centre(crops[:: max(1, len(crops) // 3)][:3]) for crops in trainer.crops.values()])
    with torch.no_grad():
        columns = [faces.float()]
        columns += [trainer.network(faces.float() / 255, name) * 255 for name in trainer.crops]
    sheet(columns).save(out / "preview.png")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.peer_training", description=__doc__)
    parser.add_argument("--people", type=Path, required=True, help="one subfolder of crops per identity")
    parser.add_argument("--general", type=Path, nargs="*", default=[], help="crops of others, for side A")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and previews")
    parser.add_argument("--updates", type=int, help="budget in image updates")
    parser.add_argument("--minutes", type=float, help="budget in minutes")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"images a step (default {BATCH})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--overwrite", action="store_true", help="start anew where --out holds a run")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
