"""Stage C: one more person's decoder, from the universal one, with the shared encoder frozen."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PillowImage
from torch import Tensor

from faceswap.alignment import Template
from faceswap.bundle import MANIFEST_NAME, Bundle
from faceswap.errors import BundleError
from models.checkpoint import UNIVERSAL, Checkpoint
from models.crop_report import REPORT
from models.dataset import (
    Person,
    centre,
    check_name,
    load_crops,
    pictures_below,
    read_record,
    side_of_crops,
)
from models.errors import CheckpointError, DataError
from models.run import Run, config_of, refuse_to_overwrite, resume
from models.stored import weights_sha256
from models.trainer import TrainConfig, Trainer
from models.warm_start import decoder_from

log = logging.getLogger("models.enrol")
ENROL = TrainConfig(frozen=True, general_share=0.0, learning_rate=6e-4, reuse=2)
MINUTES = 10.0
Crop = Callable[[Path, Path], None]
"""Crops the photos or videos in one folder into another: `python -m models.crop`."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who is enrolled from what, and how long it may take."""

    name: str
    photos: Path
    """A folder of photos or videos, or of 80x80 crops; `identity.json` in it is the consent record."""
    out: Path
    config: TrainConfig = ENROL
    device: str = "cpu"
    resume: bool = False
    overwrite: bool = False
    save_minutes: float = 5.0
    preview_minutes: float = 2.0
    tensorboard: bool = False


def load_base(path: Path) -> Checkpoint:
    """A checkpoint, or a bundle's networks as one: what `--from` names."""
    if (path / MANIFEST_NAME).exists():
        from models.from_bundle import checkpoint_of

        try:
            return checkpoint_of(Bundle.open(path))
        except BundleError as error:
            raise CheckpointError(str(error)) from error
    return Checkpoint.load(path)


def enrol(
    base: Checkpoint,
    enrolment: Enrolment,
    crop: Crop,
    sources: Tensor | None = None,
    general: Tensor | None = None,
) -> Path:
    """Trains the decoder of one person and returns the checkpoint that holds it.

    `sources` (N, 3, 64, 64) are for the preview; `general` crops (N, 3, 80, 80) for `TrainConfig.foreign`.

    The checkpoint has the very encoder of `base`, so `python -m export` adds the person to the bundle
    that `base` came from, and nobody else in it changes. CheckpointError, DataError.
    """
    _check(base, enrolment.name)
    refuse_to_overwrite(enrolment.out, allowed=enrolment.resume or enrolment.overwrite)
    old = earlier(base, enrolment) if enrolment.resume else None
    config = schedule(enrolment, old)
    person = _person(enrolment, crop)
    universal = base.decoders[UNIVERSAL]
    start = old.decoders[enrolment.name] if old else decoder_from(universal, universal.config)
    trainer = Trainer(
        config, base.encoder, {person.name: start}, [person],
        person.crops[:0] if general is None else general, Template(), torch.device(enrolment.device),
    )  # fmt: skip
    if old is not None:
        resume(trainer, old)
    log.info("%s: %d crops, the encoder stays as it is", person.name, len(person.crops))
    own = centre(person.crops[:: max(1, len(person.crops) // 6)][:6]).float()
    return Run(
        trainer,
        [person],
        own if sources is None else torch.cat([own, sources]),
        _facts(base, person, config),
        enrolment.out,
        enrolment.save_minutes,
        enrolment.preview_minutes,
        kept={UNIVERSAL: universal},
        tensorboard=enrolment.tensorboard,
    ).run()


def _check(base: Checkpoint, name: str) -> None:
    check_name(name)
    if name in base.decoders:
        raise DataError(f"{name} is in --from already; choose another name")
    if UNIVERSAL not in base.decoders:
        raise CheckpointError("--from has no universal decoder to start from; take one that has")


def earlier(base: Checkpoint, enrolment: Enrolment) -> Checkpoint:
    """The enrolment's own run in `out`. CheckpointError if somebody else's, or for another encoder."""
    old = Checkpoint.load(enrolment.out)
    if enrolment.name not in old.decoders:
        raise CheckpointError(f"{enrolment.out} holds a run of {old.identities}, not of {enrolment.name}")
    if weights_sha256(old.encoder) != weights_sha256(base.encoder):
        raise CheckpointError(f"{enrolment.out} holds a run with another encoder than that of --from")
    return old


def schedule(enrolment: Enrolment, old: Checkpoint | None) -> TrainConfig:
    """A resumed run keeps its own, but for a budget if one is given; a new one has MINUTES by default."""
    config = enrolment.config
    given = config.updates is not None or config.minutes is not None
    if old is None:
        return config if given else replace(config, minutes=MINUTES)
    own = config_of(old)
    return replace(own, updates=config.updates, minutes=config.minutes) if given else own


def preview_sources(base: Checkpoint, general: Tensor | None) -> Tensor:
    """Other people's faces for the sheet: six general ones, else the previews of those in `base`."""
    if general is not None and len(general):
        return centre(general[:: max(1, len(general) // 6)][:6]).float()
    shown = [preview[None].float() for preview in base.previews.values()]
    return torch.cat(shown) if shown else torch.empty(0, 3, 64, 64)


def _person(enrolment: Enrolment, crop: Crop) -> Person:
    """Crops as they are; photos and videos are cropped first, into `out`/crops."""
    photos, crops = enrolment.photos, enrolment.out / "crops"
    if not photos.exists():
        raise DataError(f"{photos} does not exist")
    ready = photos.is_dir() and _are_crops(pictures_below(photos))
    if not ready and not (enrolment.resume and crops.is_dir()):
        _crop_anew(photos, enrolment.out, crop)
    pictures = pictures_below(photos if ready else crops)
    if not pictures:
        raise DataError(f"no face was found in {photos}")
    return Person(enrolment.name, load_crops(pictures), read_record(photos) if photos.is_dir() else {})


def _crop_anew(photos: Path, out: Path, crop: Crop) -> None:
    """All of `out`/crops or nothing, and no face of an earlier run between them."""
    crops, partial = out / "crops", out / "cropping"
    if crops.exists() and not (crops / REPORT).exists():
        raise DataError(f"{crops} is in the way; choose another --out")
    if crops.resolve() in (photos.resolve(), *photos.resolve().parents):
        raise DataError(f"{photos} would be replaced by its crops; choose another --out")
    shutil.rmtree(partial, ignore_errors=True)
    crop(photos, partial / "crops")
    shutil.rmtree(crops, ignore_errors=True)
    for made in partial.iterdir() if partial.is_dir() else ():
        made.replace(out / made.name)
    shutil.rmtree(partial, ignore_errors=True)


def crop(photos: Path, out: Path) -> None:
    """`python -m models.crop PHOTOS --out OUT`; DataError with its line if it came to nothing.

    A folder that holds videos and no photo stands for all its videos.
    """
    from models.crop import main as crop_main
    from models.video import VIDEOS

    clips = [] if photos.is_file() else [p for p in photos.rglob("*") if p.suffix.lower() in VIDEOS]
    given = [photos] if photos.is_file() or pictures_below(photos) else sorted(clips) or [photos]
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        failed = crop_main([*map(str, given), "--out", str(out)]) != 0
    if failed:
        raise DataError(said.getvalue().strip().removeprefix("models.crop: "))
    sys.stderr.write(said.getvalue())


def _are_crops(pictures: list[Path]) -> bool:
    """Whether the first picture has a crop's size; `load_crops` looks at the others."""
    try:
        with PillowImage.open(pictures[0]) as opened:
            return opened.size == (side_of_crops(), side_of_crops())
    except (OSError, SyntaxError, IndexError):
        return False


def _facts(base: Checkpoint, person: Person, config: TrainConfig) -> dict[str, Any]:
    return {
        "preset": "enrol",
        "config": asdict(config),
        "encoder_weights": base.facts.get("encoder_weights", "unknown"),
        "torch": str(torch.__version__),
        "crops": {person.name: len(person.crops)},
        "from": {key: base.facts.get(key) for key in ("preset", "updates", "seconds", "crops")},
    }
