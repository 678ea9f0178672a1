"""One training run as its user sees it: progress bar, log, previews, checkpoints."""

from __future__ import annotations

import importlib
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from models.bars import Bar, progress_bar
from models.checkpoint import Checkpoint
from models.dataset import Person, most_frontal
from models.decoders import Decoder
from models.errors import CheckpointError, TrainingError
from models.previews import save_previews
from models.trainer import Progress, TrainConfig, Trainer

log = logging.getLogger("models.run")
CHECKPOINT = "checkpoint.pt"
OTHER_VERSION = "the checkpoint's training state is of another version; start anew"
BAR = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"


@dataclass(slots=True, eq=False)
class Run:
    """Drives `trainer` until its budget is spent; `out` gets checkpoint.pt, log.jsonl and previews/.

    `kept` are decoders that are not trained here but go on with the checkpoint, such as the universal
    one after an enrolment. `facts` go into the manifest.
    """

    trainer: Trainer
    people: list[Person]
    sources: Tensor
    """For the preview sheet, (N, 3, 64, 64) in 0..255."""
    facts: dict[str, Any]
    out: Path
    save_minutes: float = 5.0
    preview_minutes: float = 2.0
    kept: dict[str, Decoder] = field(default_factory=dict)
    tensorboard: bool = False

    def run(self) -> Path:
        """Returns the checkpoint's path. DivergedError when the loss stays no number."""
        self.out.mkdir(parents=True, exist_ok=True)
        board = _board(self.out) if self.tensorboard else None
        self._forget_later_rows()
        saved = shown = time.monotonic()
        done = int(1000 * self.trainer.share_done())  # a resumed run does not start at 0
        with progress_bar(total=1000, initial=done, bar_format=BAR, leave=None) as bar:
            for progress in self.trainer.run():
                now, last = time.monotonic(), self.trainer.share_done() >= 1
                if progress.step % 20 == 0 or last:
                    self._show(bar, progress)
                if progress.step % 200 == 0 or last:
                    self._write_row(board)
                if now - shown >= 60 * self.preview_minutes:
                    self._preview()
                    shown = now
                if now - saved >= 60 * self.save_minutes:
                    self._save()
                    saved = now
        self._preview()
        self._save()
        if board is not None:
            board.close()
        progress = self.trainer.progress
        log.info("%s: %d image updates in %.1f min", self.out / CHECKPOINT, progress.updates,
                 progress.seconds / 60)  # fmt: skip
        return self.out / CHECKPOINT

    def _forget_later_rows(self) -> None:
        """Rows that a killed run wrote after its last checkpoint, or an overwritten run, go from the log."""
        path = self.out / "log.jsonl"
        if path.exists():
            rows = [line for line in path.read_text().splitlines() if self._is_past(line)]
            partial = path.with_name(path.name + ".partial")
            partial.write_text("".join(f"{row}\n" for row in rows))
            partial.replace(path)

    def _is_past(self, row: str) -> bool:
        try:
            return int(json.loads(row)["step"]) <= self.trainer.progress.step
        except (ValueError, KeyError, TypeError):  # half a line, where the disk was full
            return False

    def _show(self, bar: Bar, progress: Progress) -> None:
        bar.n = int(1000 * min(self.trainer.share_done(), 1))
        stage = "sharp" if progress.sharp else "joint" if progress.joint else "general"
        rate = progress.updates / max(progress.seconds, 1e-9)
        bar.set_postfix_str(f"{stage}, {progress.updates} images, {rate:.0f}/s, loss {progress.loss:.4f}")

    def _write_row(self, board: Any) -> None:
        row = self.trainer.progress.record() | {"learning_rate": self.trainer.learning_rate()}
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        if board is not None:
            for name in ("loss", "learning_rate", "seconds"):
                board.add_scalar(name, row[name], row["updates"])

    def _preview(self) -> None:
        trainer = self.trainer
        with trainer.average_weights():
            path = self.out / "previews" / f"{trainer.progress.updates:09d}.png"
            save_previews(path, trainer.encoder, trainer.decoders, self.sources.to(trainer.device))

    def _save(self) -> None:
        trainer = self.trainer
        training = trainer.state()
        with trainer.average_weights():
            Checkpoint(
                encoder=trainer.encoder,
                decoders=trainer.decoders | self.kept,
                template=[list(pair) for pair in trainer.template.shares],
                facts=self.facts | trainer.progress.record(),
                records={p.name: p.record for p in self.people},
                previews={p.name: most_frontal(p.crops) for p in self.people},
                training=training,
            ).save(self.out / CHECKPOINT)


def config_of(old: Checkpoint) -> TrainConfig:
    """What an interrupted run was started with. CheckpointError if nothing of it can be continued."""
    if not old.training:
        raise CheckpointError("this checkpoint carries no training state to resume from")
    try:
        return TrainConfig.of(old.facts["config"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(OTHER_VERSION) from error


def resume(trainer: Trainer, old: Checkpoint) -> None:
    """Continues an interrupted run: raw weights, averages, optimiser, data, place in the schedule."""
    try:
        trainer.restore(old.training)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(OTHER_VERSION) from error


def refuse_to_overwrite(out: Path, *, allowed: bool) -> None:
    """A run's folder is not written over by mistake."""
    if (out / CHECKPOINT).exists() and not allowed:
        raise CheckpointError(
            f"{out} already holds a checkpoint; --resume it, --overwrite it, or choose another --out"
        )


def _board(out: Path) -> Any:
    """TensorBoard's writer; an extra that nothing else needs."""
    try:
        module = importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise TrainingError("--tensorboard needs: pip install tensorboard") from error
    return module.SummaryWriter(str(out / "tensorboard"))
