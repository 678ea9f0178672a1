"""Tone: measured over the face, taken off, given back; nothing of it is lost on the way."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.tone import DARKEST, MIDDLE, TONES, ToneMeter, gains


@pytest.fixture
def meter() -> ToneMeter:
    return ToneMeter()


def flat(*rgb: float) -> Tensor:
    """(1, 3, 64, 64) of one colour in 0..1."""
    return torch.tensor(rgb).view(1, 3, 1, 1).expand(1, 3, 64, 64)


def test_a_tone_is_exposure_red_and_blue(meter: ToneMeter) -> None:
    tone = meter(flat(0.4, 0.2, 0.1))
    exposure = (math.log(0.4) + math.log(0.2) + math.log(0.1)) / 3
    assert tone.shape == (1, TONES)
    assert tone[0].tolist() == pytest.approx(
        [exposure, math.log(0.4) - exposure, math.log(0.1) - exposure], abs=1e-5
    )


def test_without_tone_every_channel_has_the_same_mean(meter: ToneMeter, faces: Tensor) -> None:
    toneless = meter.remove(faces / 255, meter(faces / 255))
    means = (toneless * meter.weights).sum(dim=(2, 3))
    assert torch.allclose(means, torch.tensor(MIDDLE), atol=1e-5)


def test_the_gains_give_back_what_was_removed(meter: ToneMeter, faces: Tensor) -> None:
    rgb = faces / 255
    tone = meter(rgb)
    assert torch.allclose(meter.remove(rgb, tone) * gains(tone), rgb, atol=1e-5)


def test_pictures_that_differ_in_tone_only_are_the_same_without_it(meter: ToneMeter, faces: Tensor) -> None:
    rgb = faces / 255
    toned = rgb * torch.tensor([0.5, 0.35, 0.6]).view(1, 3, 1, 1)
    assert torch.allclose(meter.remove(toned, meter(toned)), meter.remove(rgb, meter(rgb)), atol=1e-4)


def test_a_gain_is_told_by_the_exposure_alone(meter: ToneMeter, faces: Tensor) -> None:
    difference = meter(faces / 255) - meter(faces / 255 / 2)
    assert torch.allclose(difference, torch.tensor([math.log(2), 0, 0]), atol=1e-4)


def test_the_scale_of_the_picture_may_be_another_one(meter: ToneMeter, faces: Tensor) -> None:
    """Encoding works in 0..255 with a tone measured in 0..1."""
    tone = meter(faces / 255)
    assert torch.allclose(meter.remove(faces, tone), meter.remove(faces / 255, tone) * 255, atol=1e-2)


def test_the_face_is_measured_and_not_what_is_around_it(meter: ToneMeter) -> None:
    picture = torch.full((1, 3, 64, 64), 0.3)
    picture[..., :4, :] = picture[..., :, :4] = picture[..., :, -4:] = 1
    assert torch.allclose(meter(picture), meter(flat(0.3, 0.3, 0.3)), atol=0.02)
    assert meter.weights.sum() == pytest.approx(1)
    assert torch.allclose(meter.weights, meter.weights.flip(3)), "no side counts more"
    assert meter.weights[0, 0, 36, 32] > 100 * meter.weights[0, 0, 2, 2]


def test_black_has_a_tone_too(meter: ToneMeter) -> None:
    tone = meter(flat(0, 0, 0))
    assert tone.isfinite().all()
    assert tone[0, 0].item() == pytest.approx(math.log(DARKEST), abs=1e-5)
    assert meter.remove(flat(0, 0, 0), tone).abs().max() == 0


def test_a_meter_that_is_off_changes_nothing(faces: Tensor) -> None:
    off = ToneMeter(enabled=False)
    tone = off(faces / 255)
    assert torch.equal(tone, tone[:1].expand(len(faces), -1)), "all have the same"
    assert torch.allclose(off.remove(faces, tone), faces, rtol=1e-6, atol=0)
    assert torch.allclose(gains(tone), torch.ones(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_tone_is_exact_under_autocast(enabled: bool, faces: Tensor) -> None:
    meter = ToneMeter(enabled=enabled)
    expected = meter(faces / 255)
    with torch.autocast("cpu", torch.bfloat16):
        tone = meter(faces / 255)
        toneless = meter.remove(faces, tone)
    assert tone.dtype == toneless.dtype == torch.float32
    assert torch.equal(tone, expected)


def test_where_the_face_is_belongs_to_no_checkpoint(meter: ToneMeter) -> None:
    assert not meter.state_dict()
