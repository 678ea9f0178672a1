"""The training loop on tiny networks: its stages, its guard, its averages, its budget."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from faceswap.alignment import Template
from models.augment import AugmentConfig
from models.checkpoint import UNIVERSAL
from models.dataset import Person, centre
from models.decoders import Decoder
from models.errors import DivergedError
from models.losses import ReconstructionLoss
from models.pose import PoseNet
from models.trainer import MAX_BAD_STEPS, TrainConfig, Trainer
from tests.models.fakes import Thumbnails, small_networks

QUICK = TrainConfig(updates=160, batch=8, learning_rate=3e-3, warmup_steps=5, seed=1)
MakeTrainer = Callable[..., Trainer]
State = dict[str, Tensor]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def make_trainer(crops: Tensor) -> MakeTrainer:
    """A trainer of `will`, as he is, and `down`, the same crops upside down."""

    def make(config: TrainConfig = QUICK, **changes: Any) -> Trainer:
        encoder, decoders = small_networks("down", "will")
        people = [Person("down", crops.flip(2)), Person("will", crops)]
        config, general, device = replace(config, **changes), crops[:0], torch.device("cpu")
        pose = PoseNet().requires_grad_(requires_grad=False) if config.pose else None
        return Trainer(config, encoder, decoders, people, general, Template(), device, pose)

    return make


class BadLoss(ReconstructionLoss):
    """The real loss, but `value` in the calls of `bad`."""

    def __init__(self, bad: range, value: float = math.nan) -> None:
        super().__init__(Template())
        self.bad, self.value, self.calls = bad, value, 0

    def forward(self, decoded: Tensor, true: Tensor, mask: Tensor | None = None) -> Tensor:
        loss = super().forward(decoded, true, mask)
        self.calls += 1
        return loss * self.value if self.calls - 1 in self.bad else loss


def state(module: nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def same(a: State, b: State) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def averaged(trainer: Trainer, name: str) -> State:
    with trainer.average_weights():
        return state(trainer.decoders[name])


@torch.no_grad()
def error(trainer: Trainer, name: str, crops: Tensor) -> float:
    """Of `name`'s own crops, decoded as they are."""
    faces, encoder = centre(crops).float(), trainer.encoder
    decoded, _ = trainer.decoders[name].relative(encoder.bottleneck(encoder.features(faces)))
    return float(trainer.loss(decoded, encoder.meter.remove(faces / 255, encoder.meter(faces / 255))))


# ---------------------------------------------------------------- learning
def test_everybody_learns_their_own_face(make_trainer: MakeTrainer, crops: Tensor) -> None:
    trainer = make_trainer(updates=600, learning_rate=5e-3)
    down = crops.flip(2)
    own = {"will": crops, "down": down, UNIVERSAL: torch.cat([crops, down])}
    before = {name: error(trainer, name, faces) for name, faces in own.items()}
    losses = [progress.loss for progress in trainer.run()]
    assert losses[-1] < losses[0]
    for name, faces in own.items():
        assert error(trainer, name, faces) < 0.9 * before[name], name
    assert error(trainer, "will", crops) < 0.9 * error(trainer, "will", down)
    assert error(trainer, "down", down) < 0.9 * error(trainer, "down", crops)


def test_the_frozen_part_stays_as_it_is(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(updates=40)
    vgg, bottleneck = state(trainer.encoder.vgg), state(trainer.encoder.bottleneck)
    for _ in trainer.run():
        pass
    assert same(state(trainer.encoder.vgg), vgg)
    assert not same(state(trainer.encoder.bottleneck), bottleneck)
    assert all(parameter.grad is None for parameter in trainer.encoder.vgg.parameters())


def test_the_same_seed_gives_the_same_weights(make_trainer: MakeTrainer) -> None:
    def course(seed: int) -> State:
        trainer = make_trainer(updates=40, seed=seed)
        for _ in trainer.run():
            pass
        return state(trainer.trained)

    assert same(course(1), course(1))
    assert not same(course(1), course(2))


# ---------------------------------------------------------------- stages
def test_the_universal_decoder_comes_first_then_all_then_sharp(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    seen = []
    for progress in trainer.run():
        seen.append((progress.joint, progress.sharp))
        names = {UNIVERSAL, "down", "will"} if progress.joint else {UNIVERSAL}
        assert set(progress.pools) == names
        assert trainer.augment_config().warp == (0 if progress.sharp else AugmentConfig().warp)
    assert list(dict.fromkeys(seen)) == [(False, False), (True, False), (True, True)]
    assert seen.count((False, False)) == 4, "a fifth of 160 updates in steps of 8"


def test_the_sharp_stage_changes_nothing_but_the_warp(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.progress.sharp = True
    assert trainer.augment_config() == replace(QUICK.augment, warp=0.0)


def test_people_wait_unchanged_until_the_joint_stage(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    waiting = state(trainer.decoders["will"])
    for progress in trainer.run():
        if progress.joint:
            break
        assert same(state(trainer.decoders["will"]), waiting)
    assert not same(state(trainer.decoders["will"]), waiting)


@pytest.mark.parametrize("name", ["will", "down"])
def test_a_person_starts_as_a_copy_of_everybody(make_trainer: MakeTrainer, name: str) -> None:
    """As the average of the universal decoder; one step of Adam later no weight is further than its rate."""
    trainer = make_trainer()
    universal: State = {}
    for progress in trainer.run():
        if progress.joint:
            break
        universal = averaged(trainer, UNIVERSAL)
    ours = state(trainer.decoders[name])
    assert not torch.equal(ours.pop("low"), universal["low"]), "but for the range of their own tones"
    assert not torch.equal(ours.pop("high"), universal["high"])
    assert max((ours[key] - universal[key]).abs().max().item() for key in ours) <= QUICK.learning_rate * 1.01
    mean = averaged(trainer, name)
    assert max((mean[key] - universal[key]).abs().max().item() for key in ours) <= QUICK.learning_rate * 1.01


# ---------------------------------------------------------------- the guard
def test_a_bad_step_is_skipped_and_counted(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(general_share=2.0)  # one decoder, so one loss a step
    trainer.loss = BadLoss(range(3, 6))
    weights = []
    bad = []
    for progress in trainer.run():
        weights.append(state(trainer.trained))
        bad.append(progress.bad_steps)
    assert bad[:8] == [0, 0, 0, 1, 2, 3, 0, 0]
    assert same(weights[2], weights[5]), "nothing is learnt from a loss that is not a number"
    assert not same(weights[5], weights[6])
    assert all(tensor.isfinite().all() for tensor in weights[-1].values())
    assert math.isfinite(trainer.progress.loss)
    assert caplog.text.count("skipped") == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_twenty_bad_steps_in_a_row_end_the_run(make_trainer: MakeTrainer, value: float) -> None:
    trainer = make_trainer(updates=800, general_share=2.0)
    trainer.loss = loss = BadLoss(range(2, 999), value)
    steps = trainer.run()
    with pytest.raises(DivergedError, match="--learning-rate"):
        for _ in steps:
            pass
    assert loss.calls == 2 + MAX_BAD_STEPS
    assert all(parameter.isfinite().all() for parameter in trainer.trained.parameters())


# ---------------------------------------------------------------- averages
def test_average_weights_are_exchanged_and_given_back(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(updates=80)
    for _ in trainer.run():
        pass
    raw, average = state(trainer.trained), [tensor.clone() for tensor in trainer.average]
    with trainer.average_weights():
        inside = [parameter.detach().clone() for parameter in trainer.trained.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(inside, average, strict=True))
    assert same(state(trainer.trained), raw)
    assert all(torch.equal(a, b) for a, b in zip(trainer.average, average, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(average, trainer.trained.parameters(), strict=True))


def test_average_weights_are_given_back_after_an_error(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(updates=16)
    for _ in trainer.run():
        pass
    raw = state(trainer.trained)
    with pytest.raises(RuntimeError, match="disk full"), trainer.average_weights():
        raise RuntimeError("disk full")
    assert same(state(trainer.trained), raw)


# ---------------------------------------------------------------- the budget
def test_the_budget_counts_image_updates(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(updates=100)
    assert [progress.updates for progress in trainer.run()][:2] == [8, 16]
    assert 100 <= trainer.progress.updates < 108
    assert trainer.progress.step >= 100 // 8
    assert list(trainer.run()) == [], "a spent budget has no more steps"


def test_the_nearer_of_two_limits_counts(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(updates=100, minutes=1.0)
    trainer.progress.updates, trainer.progress.seconds = 25, 6.0
    assert trainer.share_done() == pytest.approx(0.25)
    trainer.progress.seconds = 45.0
    assert trainer.share_done() == pytest.approx(0.75)


def test_minutes_end_a_run(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(updates=None, minutes=0.3 / 60)
    for _ in trainer.run():
        pass
    assert 0.3 <= trainer.progress.seconds < 10


def test_the_learning_rate_warms_up_and_falls(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(updates=240)
    rates = [trainer.learning_rate() for _ in trainer.run()]
    assert rates[0] == pytest.approx(QUICK.learning_rate * 2 / 5, rel=0.05), "after the first step"
    assert max(rates) == pytest.approx(QUICK.learning_rate, rel=0.05)
    assert rates[-1] == pytest.approx(QUICK.learning_rate * QUICK.final_rate, rel=0.1)


def test_each_variant_is_used_about_as_often_as_asked_for(make_trainer: MakeTrainer) -> None:
    """That is what the pool is for: the frozen part runs once for `reuse` updates."""
    trainer = make_trainer(updates=400, general_share=2.0, reuse=4)
    assert isinstance(trainer.encoder, Thumbnails)
    steps = trainer.run()
    next(steps)
    after_filling = trainer.encoder.seen
    for _ in steps:
        pass
    encoded = trainer.encoder.seen - after_filling
    assert (trainer.progress.updates - QUICK.batch) / encoded == pytest.approx(4, rel=0.05)


def test_decoders_are_whole_modules_of_their_own(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    addresses = [p.data_ptr() for d in trainer.decoders.values() for p in d.parameters()]
    assert len(addresses) == len(set(addresses))
    assert all(isinstance(decoder, Decoder) for decoder in trainer.decoders.values())


@pytest.mark.parametrize("name", ["bottleneck", "train", "keys"])
def test_a_person_may_be_called_like_a_part_of_a_network(name: str, crops: Tensor) -> None:
    encoder, decoders = small_networks(name)
    before = encoder.bottleneck.narrow.weight.detach().clone()
    config = replace(QUICK, updates=16)
    trainer = Trainer(
        config, encoder, decoders, [Person(name, crops)], crops[:0], Template(), torch.device("cpu")
    )
    assert list(trainer.run())
    assert not torch.equal(encoder.bottleneck.narrow.weight, before), "the bottleneck was trained"


# ---------------------------------------------------------------- going on, bit by bit
SHAPES: dict[str, dict[str, Any]] = {
    "joint": {},
    "finetuned": {"finetune": True, "batch": 4, "updates": 60},
    "other shares": {"general_share": 0.5, "sharp_share": 0.3, "reuse": 2, "refresh_every": 3},
    "pose": {"pose": 1.0, "general_share": 0.1},
    "one stage": {"general_share": 0.0, "sharp_share": 0.0},
}


def finish(trainer: Trainer, steps: int | None = None) -> Trainer:
    for progress in trainer.run():
        if progress.step == steps:
            break
    return trainer


def carried_over(old: Trainer, new: Trainer) -> Trainer:
    """`new` as the command builds it from the checkpoint that it wrote for `old`."""
    buffer = io.BytesIO()
    training = old.state()
    with old.average_weights():
        torch.save(
            [training, old.encoder.state_dict(), *(d.state_dict() for d in old.decoders.values())], buffer
        )
    buffer.seek(0)
    training, encoder, *decoders = torch.load(buffer, weights_only=True)
    new.encoder.load_state_dict(encoder)
    for decoder, weights in zip(new.decoders.values(), decoders, strict=True):
        decoder.load_state_dict(weights)
    new.restore(training)
    return new


@pytest.mark.parametrize("stop", [1, 3, 6, 14])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_restored_run_ends_with_the_very_same_weights(
    make_trainer: MakeTrainer, shape: str, stop: int
) -> None:
    """In every stage, between two refreshes and right after one."""
    whole = finish(make_trainer(**SHAPES[shape]))
    half = finish(make_trainer(**SHAPES[shape]), steps=stop)
    assert half.progress.step == stop < whole.progress.step
    again = finish(carried_over(half, make_trainer(**SHAPES[shape], seed=QUICK.seed)))
    assert again.progress.record() | {"seconds": 0} == whole.progress.record() | {"seconds": 0}
    assert same(state(again.trained), state(whole.trained))
    assert all(torch.equal(a, b) for a, b in zip(again.average, whole.average, strict=True))


def test_the_stages_that_the_restored_runs_were_stopped_in(make_trainer: MakeTrainer) -> None:
    stages = {}
    for progress in make_trainer().run():
        stages[progress.step] = "sharp" if progress.sharp else "joint" if progress.joint else "general"
    assert [stages[step] for step in (1, 3, 6)] == ["general", "general", "joint"]
    assert list(stages.values())[-1] == "sharp"


def test_a_longer_budget_goes_on_with_the_same_data(make_trainer: MakeTrainer) -> None:
    half = finish(make_trainer(updates=80))
    longer = carried_over(half, make_trainer(updates=240))
    assert {n: p.state() for n, p in longer.progress.pools.items()} == {
        n: p.state() for n, p in half.progress.pools.items()
    }
    finish(longer)
    assert longer.progress.updates >= 240


# ---------------------------------------------------------------- one more person, the encoder frozen
@pytest.fixture
def enrolment(crops: Tensor) -> Callable[[], Trainer]:
    def make() -> Trainer:
        encoder, decoders = small_networks("will")
        config = replace(QUICK, frozen=True, general_share=0.0)
        return Trainer(
            config, encoder, {"will": decoders["will"]}, [Person("will", crops)], crops[:0], Template(),
            torch.device("cpu"),
        )  # fmt: skip

    return make


def test_frozen_only_the_decoder_learns(enrolment: Callable[[], Trainer], crops: Tensor) -> None:
    trainer = enrolment()
    encoder, decoder = state(trainer.encoder), state(trainer.decoders["will"])
    before = error(trainer, "will", crops)
    finish(trainer)
    assert same(state(trainer.encoder), encoder)
    assert not same(state(trainer.decoders["will"]), decoder)
    assert error(trainer, "will", crops) < before
    assert list(trainer.trained) == ["decoder:will"]
    assert all(parameter.grad is None for parameter in trainer.encoder.parameters())


def test_frozen_the_whole_encoder_is_cached(enrolment: Callable[[], Trainer]) -> None:
    trainer = enrolment()
    next(trainer.run())
    encodings, truth = trainer.progress.pools["will"].draw(3)
    assert encodings.shape == (3, trainer.encoder.config.latent_channels, 4, 4)
    assert truth.shape == (3, 3, 64, 64)


@pytest.mark.parametrize("stop", [1, 10, 19])
def test_a_restored_enrolment_ends_with_the_very_same_weights(
    enrolment: Callable[[], Trainer], stop: int
) -> None:
    whole, half = finish(enrolment()), finish(enrolment(), steps=stop)
    again = finish(carried_over(half, enrolment()))
    assert same(state(again.trained), state(whole.trained))
    assert all(torch.equal(a, b) for a, b in zip(again.average, whole.average, strict=True))


def test_finetuning_trains_vgg19_at_a_tenth_of_the_rate(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(finetune=True, updates=16, warmup_steps=1)
    vgg = state(trainer.encoder.vgg)
    next(trainer.run())
    assert list(trainer.trained)[-1] == "vgg"
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    assert rates[-1] == pytest.approx(rates[0] / 10)
    assert same({k: v for k, v in vgg.items() if k == "mean"}, state(trainer.encoder.vgg))


def test_every_person_has_the_tones_of_their_own_photos(make_trainer: MakeTrainer, crops: Tensor) -> None:
    trainer = make_trainer()
    tones = trainer.encoder.meter(centre(crops).float() / 255)
    will = trainer.decoders["will"]
    assert (will.low >= tones.amin(dim=0)).all() and (will.high <= tones.amax(dim=0)).all()
    assert (will.low < will.high).all()
    assert trainer.decoders[UNIVERSAL].low.max() < -100, "everybody's decoder keeps what it is given"


def test_a_swap_is_held_to_the_pose_of_its_source(make_trainer: MakeTrainer) -> None:
    """A person's decoder hears of foreign faces; the network that sees the landmarks learns nothing."""
    trainer = make_trainer(pose=1.0, updates=48)
    assert trainer.pose is not None
    before = state(trainer.pose)
    finish(trainer)
    assert same(state(trainer.pose), before)
    assert not any(name.startswith("pose") for name in trainer.trained)
    plain = finish(make_trainer(updates=48))
    assert not same(state(trainer.decoders["will"]), state(plain.decoders["will"]))


def test_an_enrolment_may_be_held_to_it_too(crops: Tensor) -> None:
    encoder, decoders = small_networks("will")
    config = replace(QUICK, frozen=True, general_share=0.0, pose=1.0)
    trainer = Trainer(
        config, encoder, {"will": decoders["will"]}, [Person("will", crops)], crops.flip(3), Template(),
        torch.device("cpu"), PoseNet().requires_grad_(requires_grad=False),
    )  # fmt: skip
    finish(trainer)
    assert set(trainer.progress.pools) == {"will", UNIVERSAL}, "the foreign faces have a pool, no decoder"
    assert list(trainer.trained) == ["decoder:will"]
