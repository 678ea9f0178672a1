"""The rows of the ablation: what each changes, how it is trained, and what all are measured on."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceswap.alignment import Template
from models.augment import AugmentConfig
from models.autoencoder import Encoder, EncoderConfig
from models.bars import progress_bar
from models.checkpoint import UNIVERSAL
from models.dataset import Person, centre, load_crops, load_general, load_people, pictures_below
from models.decoders import Decoder, DecoderConfig
from models.evaluation import Sets
from models.groups import extremes
from models.metrics import Faces
from models.peer import OTHERS, Peer
from models.peer_training import PeerConfig, PeerTrainer
from models.peer_training import loop as peer_loop
from models.photos import Choice
from models.renderers import to_faces
from models.run import Run
from models.train import pose_net
from models.trainer import TrainConfig, Trainer
from models.vgg19 import load_imagenet

log = logging.getLogger("models.ablate")
EXPOSURE_SOURCES = 4
NO_SAVES = 1e9
"""Minutes between saves and previews: a row's time goes into training."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """One change to the preset `best`."""

    name: str
    change: str
    encoder: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] = field(default_factory=dict)
    general: bool = True
    photos: int | None = None
    """So many photos of each identity, evenly chosen."""
    peer: bool = False


ROWS = (
    Ablation("best", "nothing: the preset"),
    Ablation("tone-kept", "exposure and colour stay in the encoder's input", {"normalise_tone": False}),
    Ablation("relu3_1", "VGG19 up to relu3_1 for relu4_1", {"layer": "block3_conv1"}),
    Ablation("relu5_1", "VGG19 up to relu5_1 for relu4_1", {"layer": "block5_conv1"}),
    Ablation("width-128", "a bottleneck of 128 numbers for 512", {"width": 128}),
    Ablation("width-1024", "a bottleneck of 1,024 numbers for 512", {"width": 1024}),
    Ablation("no-general-stage", "all decoders from the start", train={"general_share": 0.0}),
    Ablation("no-general-faces", "the identities' own photos only", general=False),
    Ablation("no-warp", "no random warp of the input", augment={"warp": 0.0}),
    Ablation("warp-1.6", "a warp of 1.6 px until 85 % for 0.6 px until 40 %", train={"sharp_share": 0.15},
             augment={"warp": 1.6}),
    Ablation("pose", "the landmarks of swaps of general faces held to the source's", train={"pose": 1.0}),
    Ablation("photos-100", "100 photos of each identity", photos=100),
    Ablation("photos-225", "225 photos of each identity", photos=225),
    Ablation("instance-norm", "features normalised over space, as AdaIN does", {"instance_norm": True}),
    Ablation("finetune-encoder", "VGG19 trained as well, at a tenth of the rate", train={"finetune": True}),
    Ablation("peer", "faceswap's 64x64 Original for the same time", peer=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """What every row trains on; general crops are uint8 (n, 3, 80, 80)."""

    people: list[Person]
    general: Tensor


def load_data(people: Path, general: Sequence[Path]) -> Data:
    """DataError for what is missing."""
    return Data(load_people(people), load_general(general))


def train_row(
    row: Ablation, data: Data, settings: dict[str, Any], out: Path, device: torch.device
) -> dict[str, Any]:
    """Trains to a checkpoint in `out`; returns images, seconds and the changes, for the record."""
    torch.manual_seed(settings["seed"])
    if row.peer:
        return _train_peer(data, settings, out, device)
    amounts = replace(AugmentConfig(), **row.augment)
    config = replace(TrainConfig(**settings), augment=amounts, **row.train)
    general = data.general if row.general else data.general[:0]
    people = [_fewer(person, row.photos) for person in data.people]
    encoder = Encoder(EncoderConfig(**row.encoder))
    load_imagenet(encoder.vgg)
    everybody = torch.cat([general, *[p.crops for p in people]])
    chosen = torch.randperm(len(everybody), generator=torch.Generator().manual_seed(settings["seed"]))[:512]
    encoder.fit_scale(centre(everybody[chosen]).float())
    decoder = DecoderConfig(latent_channels=encoder.config.latent_channels)
    decoders = {name: Decoder(decoder) for name in (UNIVERSAL, *(p.name for p in people))}
    pose = pose_net(config, everybody, fresh=True)
    trainer = Trainer(config, encoder, decoders, people, general, Template(), device, pose)
    facts = {"preset": "ablation", "row": row.name, "config": asdict(config)}
    sources = centre(torch.cat([p.crops[:2] for p in people])).float()
    Run(trainer, people, sources, facts, out, NO_SAVES, NO_SAVES).run()
    progress = trainer.progress
    changes = {"encoder": row.encoder, "train": row.train, "augment": row.augment, "general": row.general}
    return {"images": progress.updates, "seconds": round(progress.seconds, 1), "changes": changes}


def _fewer(person: Person, photos: int | None) -> Person:
    """The person with `photos` crops, evenly chosen."""
    if photos is None:
        return person
    chosen = torch.linspace(0, len(person.crops) - 1, min(photos, len(person.crops))).long()
    return replace(person, crops=person.crops[chosen])


def _train_peer(data: Data, settings: dict[str, Any], out: Path, device: torch.device) -> dict[str, Any]:
    crops = {OTHERS: data.general} | {p.name: p.crops for p in data.people}
    trainer = PeerTrainer(PeerConfig(**settings), Peer(list(crops)), crops, device)
    peer_loop(trainer, {"row": "peer"}, out, NO_SAVES)
    return {"images": trainer.images, "seconds": round(trainer.seconds, 1), "changes": {"peer": True}}


def load_sets(sources: Path, options: argparse.Namespace, names: Sequence[str]) -> tuple[Sets, Faces]:
    """What all rows are measured on, of crops: the sets, and the darkest and brightest sources."""
    choice = Choice(sources, options.general, options.count, options.start, options.others)
    chosen, rest, candidates = choice.people(names)
    wanted = EXPOSURE_SOURCES * options.count
    many = candidates[:: max(1, len(candidates) // wanted)][:wanted]
    people = progress_bar(rest, desc="gallery", unit="person")
    unseen = {name: _faces(pictures_below(options.held_out / name)) for name in names}
    sets = Sets(_faces(chosen), unseen, [_faces(photos) for photos in people])
    return sets, extremes(_faces(many))


def _faces(files: list[Path]) -> Faces:
    """(N, 64, 64, 3): the middle of training crops."""
    return to_faces(centre(load_crops(files)).float())
