"""The rolling pool of encoded variants."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.augment import AugmentConfig
from models.pool import Pool, encode_features
from tests.models.fakes import AS_IT_IS, Thumbnails


def pool(crops: Tensor, capacity: int = 8, seed: int = 0) -> Pool:
    return Pool(crops, Thumbnails(), 64, capacity, torch.Generator().manual_seed(seed))


def kept(pool: Pool) -> Tensor:
    """A copy of the features inside."""
    assert pool.features is not None
    return pool.features.clone()


def changed(pool: Pool, before: Tensor) -> list[int]:
    """Places whose features are other ones now."""
    return (kept(pool) != before).flatten(1).any(dim=1).nonzero().flatten().tolist()


def test_an_empty_pool_cannot_be_drawn_from(crops: Tensor) -> None:
    with pytest.raises(RuntimeError, match="fill"):
        pool(crops).draw(2)


@pytest.mark.parametrize("capacity", [8, 64, 100])
def test_filling_encodes_about_as_many_as_there_are_places(crops: Tensor, capacity: int) -> None:
    filled = pool(crops, capacity)
    filled.fill(AugmentConfig())
    assert kept(filled).flatten(1).any(dim=1).all(), "no place is left empty"
    assert isinstance(filled.encoder, Thumbnails)
    assert capacity <= filled.encoder.seen < capacity + 64


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
    features, truth = rolling.draw(30)
    assert (features.shape, truth.shape) == ((30, 512, 8, 8), (30, 3, 64, 64))
    assert truth.min() >= 0 and truth.max() <= 1
    thumbnails = nn.functional.avg_pool2d(truth * 255, 8) / 128 - 1
    assert torch.allclose(features[:, :3], thumbnails, atol=0.01)


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


def test_features_are_kept_small_under_autocast_and_need_no_gradient() -> None:
    rgb = torch.rand(2, 3, 64, 64) * 255
    encoder = Thumbnails()
    assert encode_features(encoder, rgb.requires_grad_()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        low = encode_features(encoder, rgb)
    assert low.dtype == torch.bfloat16
    assert not low.requires_grad
