"""Augmentation: one geometry for input and truth, tone for the input only, the same seed the same data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.augment import AugmentConfig, augment
from models.dataset import centre
from tests.models.fakes import AS_IT_IS

SIZE = 64
MOVED = AugmentConfig(warp=0, tone_share=0)
"""Geometry only."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mirrored_ones(crops: Tensor, truth: Tensor) -> Tensor:
    """(N,) True where `truth` is the mirror of the crop's centre; asserts that it is one of the two."""
    straight = (truth - centre(crops)).abs().amax(dim=(1, 2, 3)) < 0.1
    mirrored = (truth - centre(crops).flip(3)).abs().amax(dim=(1, 2, 3)) < 0.1
    assert (straight ^ mirrored).all()
    return mirrored


def test_without_amounts_training_sees_what_serving_sees(crops: Tensor) -> None:
    """The 64x64 centre, pixel by pixel, or its mirror: half of the time each."""
    many = crops.repeat(20, 1, 1, 1)
    given, truth = augment(many, SIZE, AS_IT_IS, generator())
    assert given.shape == truth.shape == (len(many), 3, SIZE, SIZE)
    assert 0.4 < mirrored_ones(many, truth).float().mean() < 0.6
    assert torch.equal(given, truth)


def test_without_warp_and_tone_input_and_truth_are_equal(crops: Tensor) -> None:
    given, truth = augment(crops, SIZE, MOVED, generator())
    assert torch.equal(given, truth)
    assert (truth - centre(crops)).abs().mean() > 1, "but they were moved"


def test_tone_is_put_on_the_input_only(crops: Tensor) -> None:
    _, plain = augment(crops, SIZE, MOVED, generator())
    given, truth = augment(crops, SIZE, replace(MOVED, tone_share=1.0), generator())
    assert torch.equal(truth, plain)
    shifts = (given - truth).mean(dim=(1, 2, 3)).abs()
    assert (shifts > 1).float().mean() > 0.7
    assert given.min() >= 0 and given.max() <= 255


def test_tone_keeps_the_order_of_brightness(crops: Tensor) -> None:
    """So the direction of the light stays: a gain, a gamma and a colour never turn dark into bright."""
    given, truth = augment(crops, SIZE, replace(MOVED, tone_share=1.0), generator())
    for before, after in zip(truth[:, 0], given[:, 0], strict=True):
        sorted_by_truth = after.flatten()[before.flatten().argsort()]
        assert (sorted_by_truth.diff() >= -1e-3).all()


def test_the_share_of_toned_inputs_is_the_one_asked_for(crops: Tensor) -> None:
    many = crops.repeat(50, 1, 1, 1)
    given, truth = augment(many, SIZE, replace(AS_IT_IS, tone_share=0.85), generator())
    changed = (given != truth).flatten(1).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.85, abs=0.05)


def test_the_warp_moves_the_input_by_some_pixels_only(crops: Tensor) -> None:
    given, truth = augment(crops, SIZE, replace(MOVED, warp=1.6), generator())
    assert not torch.equal(given, truth)
    assert (given - truth).abs().mean() < (truth - truth.roll(6, dims=3)).abs().mean()
    _, plain = augment(crops, SIZE, MOVED, generator())
    assert torch.equal(truth, plain), "the truth is not warped"


def test_the_same_seed_gives_the_same_data(crops: Tensor) -> None:
    first = augment(crops, SIZE, AugmentConfig(), generator(3))
    again = augment(crops, SIZE, AugmentConfig(), generator(3))
    other = augment(crops, SIZE, AugmentConfig(), generator(4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


def test_the_state_of_torch_does_not_matter(crops: Tensor) -> None:
    first = augment(crops, SIZE, AugmentConfig(), generator())
    torch.manual_seed(99)
    again = augment(crops, SIZE, AugmentConfig(), generator())
    assert torch.equal(first[0], again[0])


def test_no_corner_is_black() -> None:
    """The margin and reflection leave no place where a pixel has to be invented."""
    white = torch.full((200, 3, 80, 80), 255, dtype=torch.uint8)
    given, truth = augment(white, SIZE, AugmentConfig(tone_share=0), generator())
    assert min(given.min().item(), truth.min().item()) > 254.9


def test_the_margin_is_enough_for_nearly_all_moves() -> None:
    """A crop whose outermost pixel is marked: reflection is needed by few of the truths."""
    marked = torch.zeros((200, 3, 80, 80), dtype=torch.uint8)
    marked[..., 0, :] = marked[..., -1, :] = marked[..., :, 0] = marked[..., :, -1] = 255
    _, truth = augment(marked, SIZE, MOVED, generator())
    assert (truth > 0).float().mean() < 0.02


def test_a_side_light_falls_on_input_and_truth_alike(crops: Tensor) -> None:
    given, truth = augment(crops, SIZE, replace(MOVED, light=0.4), generator())
    _, plain = augment(crops, SIZE, MOVED, generator())
    assert torch.equal(given, truth)
    assert not torch.allclose(truth, plain, atol=5), "it is seen"


def test_a_side_light_is_brighter_on_one_side_and_leaves_the_middle() -> None:
    grey = torch.full((64, 3, 80, 80), 100, dtype=torch.uint8)
    _, lit = augment(grey, 64, replace(MOVED, light=0.3), generator())
    sides = (lit[..., :8].mean(dim=(1, 2, 3)) / lit[..., -8:].mean(dim=(1, 2, 3))).log()
    assert sides.abs().mean() > 0.2
    assert sides.mean().abs() < sides.abs().mean(), "from either side"
    assert lit[..., 31:33, 31:33].mean() == pytest.approx(100, abs=3)
