"""The training loop: stage by stage, readable from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from faceswap.alignment import Template
from models.augment import AugmentConfig
from models.autoencoder import Encoder
from models.checkpoint import UNIVERSAL
from models.dataset import Person, centre
from models.decoders import Decoder
from models.errors import DataError, DivergedError
from models.estranged import Estranger
from models.losses import ReconstructionLoss
from models.pool import Encode, Pool, lean
from models.pose import PoseNet, pose_error

log = logging.getLogger(__name__)
MAX_BAD_STEPS = 20


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Preset `best`. Shares are parts of the budget; batches count images."""

    seed: int = 0
    updates: int | None = None
    minutes: float | None = None
    batch: int = 32
    learning_rate: float = 6e-4
    betas: tuple[float, float] = (0.5, 0.99)
    warmup_steps: int = 200
    final_rate: float = 0.02
    clip: float = 1.0
    ema: float = 0.999
    general_share: float = 0.2
    """Stage A: the bottleneck and the universal decoder alone, on everybody."""
    sharp_share: float = 0.6
    """Stage D: the last part of the run, without warp."""
    frozen: bool = False
    """Stage C: the whole encoder stays as it is, and a running service's other identities valid."""
    finetune: bool = False
    """VGG19 is trained as well, at a tenth of the rate: slow, nothing of it can be cached."""
    pose: float = 0.0
    """Weight of the pose error of general faces decoded by a person's decoder; 0 needs no PoseNet."""
    foreign: float = 0.0
    """How far latents are moved towards other people's, 0..1; for a frozen encoder (models/estranged.py)."""
    reuse: int = 4
    pool_steps: int = 128
    refresh_every: int = 4
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def share(self, updates: int, seconds: float) -> float:
        """0..1 of the budget; with both limits given the nearer one counts."""
        shares = [0.0]
        if self.updates:
            shares.append(updates / self.updates)
        if self.minutes:
            shares.append(seconds / (60 * self.minutes))
        return max(shares)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> TrainConfig:
        """From `asdict` of one, as checkpoints keep it; TypeError if it is another version's."""
        return cls(**(stored | {"augment": AugmentConfig(**stored["augment"])}))


@dataclass(slots=True)
class Progress:
    """Where a run stands; `loss` is a running mean over about 100 steps."""

    step: int = 0
    updates: int = 0
    seconds: float = 0.0
    joint: bool = False
    sharp: bool = False
    loss: float = math.nan
    bad_steps: int = 0
    pools: dict[str, Pool] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """What a log line and the facts keep: all but the pools."""
        return {
            name: getattr(self, name) for name in ("step", "updates", "seconds", "joint", "sharp", "loss")
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: with it a resumed run goes on with the same data in the same order."""
        return self.record() | {"pools": {name: pool.state() for name, pool in self.pools.items()}}


class Trainer:
    """Trains a shared bottleneck and one decoder per person on a frozen VGG19.

    Stage A: universal decoder on all faces. Stage B: every person's decoder starts as a copy of the
    universal one; all train jointly, while general faces keep the bottleneck general. Stage C, a run
    of its own (`frozen`): one more person's decoder on a frozen encoder. Stage D: the last part
    without warp, for sharpness (the paper, section 3.1: first the encoder, then jointly).
    """

    def __init__(
        self, config: TrainConfig, encoder: Encoder, decoders: dict[str, Decoder], people: list[Person],
        general: Tensor, template: Template, device: torch.device, pose: PoseNet | None = None,
    ) -> None:  # fmt: skip
        self.config, self.device, self.template = config, device, template
        self.encoder = encoder.to(device)
        self.decoders = {name: decoder.to(device) for name, decoder in decoders.items()}
        self.crops = {p.name: p.crops for p in people}
        if UNIVERSAL in decoders or len(general):
            self.crops[UNIVERSAL] = torch.cat([general, *[p.crops for p in people]])
        self.pose = pose.to(device) if pose is not None else None
        self.loss = ReconstructionLoss(template).to(device)
        self.encoder.requires_grad_(requires_grad=False)
        if config.foreign and not (config.frozen and UNIVERSAL in self.crops):
            raise DataError(
                "latents can be moved towards other people's (--foreign) where the encoder is "
                "frozen (--freeze-encoder, --enrol) and other people's faces are given (--general)"
            )
        # prefixed, or a person called `train` or `bottleneck` would meet torch's or our own names
        parts: dict[str, nn.Module] = {f"decoder:{name}": d for name, d in self.decoders.items()}
        if not config.frozen:
            parts["bottleneck"] = encoder.bottleneck.requires_grad_()
        if config.finetune:
            parts["vgg"] = encoder.vgg.requires_grad_()
        self.trained = nn.ModuleDict(parts)
        self.optimizer = torch.optim.Adam(self._groups(), betas=config.betas, fused=True)
        self.average = [p.detach().clone() for p in self.trained.parameters()]
        self.progress = Progress()
        self.estranger = Estranger(config.foreign, config.seed)
        self._fit_tones()

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by rate, in the order of `trained`."""
        return [
            {"params": list(part.parameters()), "share": 0.1 if name == "vgg" else 1.0}
            for name, part in self.trained.items()
        ]

    @torch.no_grad()
    def _fit_tones(self) -> None:
        """Every person's range of tones; the universal decoder keeps whatever it is given."""
        for name, decoder in self.decoders.items():
            if name != UNIVERSAL:
                faces = centre(self.crops[name]).to(self.device).float() / 255
                decoder.fit_tones(torch.cat([self.encoder.meter(part) for part in torch.split(faces, 256)]))

    # ------------------------------------------------------------------ the loop
    def run(self) -> Iterator[Progress]:
        """Yields after every step until the budget is spent."""
        start = time.monotonic() - self.progress.seconds
        while self.share_done() < 1:
            self._enter_stage()
            self._step()
            self.progress.seconds = time.monotonic() - start
            yield self.progress

    def share_done(self) -> float:
        """0..1 of the budget."""
        return self.config.share(self.progress.updates, self.progress.seconds)

    def _enter_stage(self) -> None:
        done, progress = self.share_done(), self.progress
        general = self.config.general_share > 0 and UNIVERSAL in self.decoders and len(self.decoders) > 1
        if not progress.pools and not progress.joint:
            progress.joint = not general
            self._make_pools([UNIVERSAL] if general else self._joint_pools())
        if not progress.joint and done >= self.config.general_share:
            progress.joint = True
            self._copy_universal()
            self._make_pools(self._joint_pools())
        progress.sharp = done >= 1 - self.config.sharp_share

    def _step(self) -> None:
        config, progress = self.config, self.progress
        if progress.step % config.refresh_every == 0:
            self._refresh()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["share"]
        with self._autocast():
            loss = self._forward()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.trained.parameters(), config.clip)
        self._guard(loss, norm)
        progress.step += 1
        progress.updates += self._batch_of_one() * len(progress.pools)

    def _forward(self) -> Tensor:
        """The mean loss over all decoders in play; the bottleneck runs once for all of them."""
        count = self._batch_of_one()
        batches = {name: pool.draw(count) for name, pool in self.progress.pools.items()}
        latents = self._latents(torch.cat([encodings for encodings, _ in batches.values()]))
        losses, poses = [], []
        for (name, (_, truth)), latent in zip(batches.items(), torch.split(latents, count), strict=True):
            toneless = self.encoder.meter.remove(truth, self.encoder.meter(truth))
            if name in self.decoders:
                face, mask = self.decoders[name].relative(self._estranged(latent, name))
                losses.append(self.loss(face, toneless, mask))
            if name == UNIVERSAL and self.progress.joint and self.pose is not None:
                poses.append(self._pose_of_swap(self.pose, latent, toneless))
        loss = torch.stack(losses).mean()
        return loss + self.config.pose * poses[0] if poses else loss

    def _estranged(self, latent: Tensor, name: str) -> Tensor:
        """As if somebody else had lent the person their face: what the decoder should not look at."""
        if not self.config.foreign or name == UNIVERSAL:
            return latent
        pools = self.progress.pools
        return self.estranger(latent, pools[name], pools[UNIVERSAL], self.progress.step)

    def _pose_of_swap(self, pose: PoseNet, latent: Tensor, source: Tensor) -> Tensor:
        """How far the landmarks of somebody's answers to foreign faces are from those of the sources."""
        people = [name for name in self.decoders if name != UNIVERSAL]
        swap, _ = self.decoders[people[self.progress.step % len(people)]].relative(latent)
        with torch.no_grad():
            true = pose(source)
        return pose_error(pose(swap), true)

    def _joint_pools(self) -> list[str]:
        """Everybody's, and one of foreign faces if there is a use for them."""
        wanted = self.pose is not None or self.config.foreign > 0
        foreign = [UNIVERSAL] if wanted and UNIVERSAL in self.crops else []
        return list(dict.fromkeys([*self.decoders, *foreign]))

    def _latents(self, encodings: Tensor) -> Tensor:
        """What is left of the encoder after what the pools have cached."""
        if self.config.frozen:
            return encodings
        features = self.encoder.features(encodings) if self.config.finetune else encodings
        latents: Tensor = self.encoder.bottleneck(features)
        return latents

    def _encode(self) -> Encode:
        """What is frozen and can be cached: all of the encoder, VGG19, or nothing."""
        encoder = self.encoder
        if self.config.finetune:
            return lambda rgb: rgb
        if self.config.frozen:
            return lambda rgb: lean(encoder.bottleneck(encoder.features(_packed(rgb))))
        return lambda rgb: lean(encoder.features(_packed(rgb)).contiguous())

    def _guard(self, loss: Tensor, norm: Tensor) -> None:
        """Takes the optimiser's step only when loss and gradient are numbers."""
        progress, value = self.progress, loss.item()
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            progress.bad_steps += 1
            log.warning("step %d skipped: loss %s, gradient norm %s", progress.step, value, norm.item())
            if progress.bad_steps >= MAX_BAD_STEPS:
                raise DivergedError(
                    f"{MAX_BAD_STEPS} steps in a row gave no finite loss; lower --learning-rate and "
                    f"resume from the last checkpoint"
                )
            return
        progress.bad_steps = 0
        self.optimizer.step()
        decay = min(self.config.ema, (1 + progress.step) / (10 + progress.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.trained.parameters()], 1 - decay)
        progress.loss = value if math.isnan(progress.loss) else 0.99 * progress.loss + 0.01 * value

    # ------------------------------------------------------------------ its parts
    def learning_rate(self) -> float:
        """Warm-up over steps, then a cosine over the budget."""
        config = self.config
        warm = min(1.0, (self.progress.step + 1) / config.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(self.share_done(), 1)))
        return config.learning_rate * warm * (config.final_rate + (1 - config.final_rate) * cosine)

    def augment_config(self) -> AugmentConfig:
        """The amounts of the present stage."""
        amounts = asdict(self.config.augment)
        return AugmentConfig(**(amounts | {"warp": 0.0})) if self.progress.sharp else self.config.augment

    def average_weights(self) -> AbstractContextManager[None]:
        """Inside, the networks hold the averaged weights (EMA): for previews and checkpoints."""
        return _Swapped(list(self.trained.parameters()), self.average)

    def _batch_of_one(self) -> int:
        return max(1, self.config.batch // max(1, len(self.progress.pools)))

    def _refresh(self) -> None:
        fresh = max(1, self._batch_of_one() * self.config.refresh_every // self.config.reuse)
        with self._autocast():
            for pool in self.progress.pools.values():
                pool.refresh(fresh, self.augment_config())

    def _make_pools(self, names: list[str], states: dict[str, Any] | None = None) -> None:
        capacity = max(64, self.config.batch * self.config.pool_steps // (len(names) * self.config.reuse))
        self.progress.pools = {}
        for name in names:
            seed = f"{self.config.seed}/{name}/{'joint' if self.progress.joint else 'general'}"
            crops = self.crops[name].to(self.device)
            pool = Pool(crops, self._encode(), self.template.size, capacity, seed)
            with self._autocast():
                pool.restore(states[name]) if states else pool.fill(self.augment_config())
            self.progress.pools[name] = pool

    def state(self) -> dict[str, Any]:
        """All that `restore` needs: raw weights, optimiser, counters of the data and of the schedule."""
        raw = {k: v.detach().clone() for k, v in self.trained.state_dict().items()}
        state: dict[str, Any] = {
            "raw": raw,
            "optimizer": self.optimizer.state_dict(),
            "progress": self.progress.state(),
        }
        state |= self.estranger.state()
        return state if self.pose is None else state | {"pose": self.pose.state_dict()}

    def restore(self, training: dict[str, Any]) -> None:
        """Continues an interrupted run; KeyError, ValueError or RuntimeError for another version's state."""
        self.average = [p.detach().clone() for p in self.trained.parameters()]
        self.trained.load_state_dict(training["raw"])
        self.optimizer.load_state_dict(training["optimizer"])
        if self.pose is not None:
            self.pose.load_state_dict(training["pose"])
        self.estranger.restore(training)
        state = dict(training["progress"])
        pools = state.pop("pools")
        for name, value in state.items():
            setattr(self.progress, name, value)
        if pools:
            self._make_pools(list(pools), pools)

    def _copy_universal(self) -> None:
        """Every person's decoder, and its average, starts as the universal one's average."""
        with self.average_weights():
            state = {k: v.clone() for k, v in self.decoders[UNIVERSAL].state_dict().items()}
        for name, decoder in self.decoders.items():
            if name != UNIVERSAL:
                decoder.load_state_dict(state | {"low": decoder.low, "high": decoder.high})
        ours = {id(p) for n, d in self.decoders.items() if n != UNIVERSAL for p in d.parameters()}
        for average, parameter in zip(self.average, self.trained.parameters(), strict=True):
            if id(parameter) in ours:
                average.copy_(parameter.detach())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=supports_bf16(self.device))


class _Swapped(AbstractContextManager[None]):
    """Exchanges the contents of two lists of tensors, and back on leaving."""

    def __init__(self, parameters: list[nn.Parameter], others: list[Tensor]) -> None:
        self.pairs = list(zip(parameters, others, strict=True))

    def __enter__(self) -> None:
        self._exchange()

    def __exit__(self, *_: object) -> None:
        self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for parameter, other in self.pairs:
            kept = parameter.detach().clone()
            parameter.copy_(other)
            other.copy_(kept)


def _packed(rgb: Tensor) -> Tensor:
    return rgb.contiguous(memory_format=torch.channels_last)


def supports_bf16(device: torch.device) -> bool:
    """bfloat16 pays where the hardware has it: AVX512-BF16 or AMX here, Ampere and later there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    probe: Callable[[], bool] | None = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
