"""The landmarks that swaps are held to: they move with the picture, and a small network learns them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.augment import AugmentConfig, affine
from models.pose import PoseNet, pose_error

pytestmark = pytest.mark.usefixtures("one_thread")
POINTS = torch.tensor([[28.0, 32], [52, 32], [40, 46], [30, 58], [50, 58]])


def marked(n: int) -> Tensor:
    """(n, 3, 80, 80) uint8, black, with a bright blob of 5 px at each of POINTS; red marks the left ones."""
    crops = torch.zeros(n, 3, 80, 80, dtype=torch.uint8)
    for index, (x, y) in enumerate(POINTS.int().tolist()):
        crops[:, 1, y - 2 : y + 3, x - 2 : x + 3] = 255
        crops[:, 0, y - 2 : y + 3, x - 2 : x + 3] = 255 if index in {0, 3} else 0
    return crops


@pytest.mark.parametrize("amounts", [AugmentConfig(), AugmentConfig(rotation=0, zoom=0, shift=0)])
def test_points_move_with_the_picture(amounts: AugmentConfig) -> None:
    """Also through the mirror, where the left eye becomes the right one."""
    generator = torch.Generator().manual_seed(0)
    points = (POINTS + 0.5).expand(40, -1, -1)
    faces, moved = affine(marked(40), points, 64, amounts, generator)
    assert faces.shape == (40, 3, 64, 64) and moved.shape == (40, 5, 2)
    mirrored = 0
    for face, where in zip(faces, moved, strict=True):
        for x, y in where.floor().int().tolist():
            assert face[1, y, x] > 200
        assert where[0, 0] < where[1, 0] and where[3, 0] < where[4, 0], "from left to right"
        x, y = where[0].floor().int().tolist()
        mirrored += int(face[0, y, x] < 50)
    assert 8 < mirrored < 32, "every second one"


def test_the_error_is_a_share_of_the_eye_distance() -> None:
    true = POINTS[None]
    assert pose_error(true, true).item() == pytest.approx(0, abs=1e-5)
    assert pose_error(true + torch.tensor([2.4, 0]), true).item() == pytest.approx(0.1, abs=1e-4)


def test_a_network_gives_five_points_and_a_gradient(faces: Tensor) -> None:
    torch.manual_seed(0)
    toneless = (faces[:3] / 255).requires_grad_()
    points = PoseNet()(toneless)
    assert points.shape == (3, 5, 2)
    pose_error(points, POINTS.expand(3, -1, -1)).backward()  # type: ignore[no-untyped-call]
    assert toneless.grad is not None and toneless.grad.isfinite().all() and toneless.grad.any()
