"""The rolling pool of encoded variants."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from models.augment import AugmentConfig
from models.pool import Pool, lean
from tests.models.fakes import AS_IT_IS, Thumbnails


def pool(crops: Tensor, capacity: int = 8, seed: int | str = 0, encoder: Thumbnails | None = None) -> Pool:
    return Pool(crops, (encoder or Thumbnails()).features, 64, capacity, str(seed))


def kept(pool: Pool) -> Tensor:
    """A copy of the encodings inside."""
    assert pool.encodings is not None
    return pool.encodings.clone()


def changed(pool: Pool, before: Tensor) -> list[int]:
    """Places whose encodings are other ones now."""
    return (kept(pool) != before).flatten(1).any(dim=1).nonzero().flatten().tolist()


def test_an_empty_pool_cannot_be_drawn_from(crops: Tensor) -> None:
    with pytest.raises(RuntimeError, match="fill"):
        pool(crops).draw(2)


@pytest.mark.parametrize("capacity", [8, 64, 100])
def test_filling_encodes_as_many_as_there_are_places(crops: Tensor, capacity: int) -> None:
    encoder = Thumbnails()
    filled = pool(crops, capacity, encoder=encoder)
    filled.fill(AugmentConfig())
    assert kept(filled).flatten(1).any(dim=1).all(), "no place is left empty"
    assert encoder.seen == capacity


def test_a_refresh_replaces_the_oldest(crops: Tensor) -> None:
    rolling = pool(crops)
    rolling.fill(AugmentConfig())
    for places in ([0, 1, 2], [3, 4, 5], [0, 6, 7], [1, 2, 3]):
        before = kept(rolling)
        rolling.refresh(3, AugmentConfig())
        assert changed(rolling, before) == places


def test_drawn_truth_belongs_to_the_drawn_features(crops: Tensor) -> None:
    rolling = pool(crops, capacity=20)
    rolling.fill(AS_IT_IS)
    encodings, truth = rolling.draw(30)
    assert (encodings.shape, truth.shape) == ((30, 512, 8, 8), (30, 3, 64, 64))
    assert truth.min() >= 0 and truth.max() <= 1
    assert torch.allclose(encodings, Thumbnails().features(truth * 255), atol=0.02)


def test_the_whole_pool_is_drawn_from(crops: Tensor) -> None:
    rolling = pool(crops)
    rolling.fill(AugmentConfig())
    drawn = {tuple(row.flatten()[:3].tolist()) for row in rolling.draw(200)[0]}
    assert len(drawn) == len({tuple(row.flatten()[:3].tolist()) for row in kept(rolling)})


def test_a_seed_fixes_the_order_of_the_data(crops: Tensor) -> None:
    def course(seed: int) -> Tensor:
        rolling = pool(crops, seed=seed)
        rolling.fill(AugmentConfig())
        drawn = []
        for _ in range(3):
            rolling.refresh(2, AugmentConfig())
            drawn.append(rolling.draw(4)[1])
        return torch.cat(drawn)

    assert torch.equal(course(5), course(5))
    assert not torch.equal(course(5), course(6))


@pytest.mark.parametrize("steps", [0, 1, 5, 40])
def test_a_restored_pool_goes_on_bit_by_bit(crops: Tensor, steps: int) -> None:
    """Also into a stage of other amounts, and when the newest variants have gone round the pool."""
    rolling, again = pool(crops, 20, "a"), pool(crops, 20, "a")
    rolling.fill(AugmentConfig())
    for number in range(steps):
        rolling.refresh(3, AugmentConfig(warp=0.0) if number > steps // 2 else AugmentConfig())
        rolling.draw(4)
    again.restore(stored(rolling.state()))
    assert torch.equal(kept(again), kept(rolling))
    assert again.truths is not None and rolling.truths is not None
    assert torch.equal(again.truths, rolling.truths)
    for one in (rolling, again):
        one.refresh(3, AugmentConfig())
    pairs = zip(rolling.draw(9), again.draw(9), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert again.state() == rolling.state()


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """As it comes out of a checkpoint, read without running its code."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def test_the_state_of_a_pool_stays_small(crops: Tensor) -> None:
    """Counters and a few refreshes: as many as the variants inside come from."""
    rolling = pool(crops, 20)
    rolling.fill(AugmentConfig())
    for _ in range(100):
        rolling.refresh(4, AugmentConfig())
    assert len(rolling.state()["recent"]) == 5
    assert not any(isinstance(value, Tensor) for value in rolling.state().values())


def test_the_state_of_torch_does_not_matter(crops: Tensor) -> None:
    first, second = pool(crops), pool(crops)
    first.fill(AugmentConfig())
    torch.manual_seed(99)
    second.fill(AugmentConfig())
    assert torch.equal(kept(first), kept(second))


def test_encodings_are_kept_small_under_autocast_and_need_no_gradient(crops: Tensor) -> None:
    plain = torch.rand(2, 3, 64, 64)
    assert lean(plain).dtype == torch.float32
    encoder = Thumbnails()
    rolling = Pool(crops, lambda rgb: lean(encoder.bottleneck(encoder.features(rgb))), 64, 8, "a")
    with torch.autocast("cpu", torch.bfloat16):
        rolling.fill(AugmentConfig())
    encodings = rolling.draw(2)[0]
    assert encodings.dtype == torch.bfloat16
    assert not encodings.requires_grad
