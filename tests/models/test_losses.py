"""The loss: SSIM as others compute it, weights where the eyes are, gradients that stay numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from faceswap.alignment import Template
from models.losses import ReconstructionLoss, face_weights, gaussian_window, luma, ssim_map

REACH = 5
"""Half of the window: nearer to the border the two treat what lies beyond differently."""


@pytest.fixture(scope="module")
def loss() -> ReconstructionLoss:
    return ReconstructionLoss(Template())


def noisy(faces: Tensor, amount: float) -> Tensor:
    noise = torch.randn(faces.shape, generator=torch.Generator().manual_seed(0))
    return (faces + noise * amount).clamp(0, 1)


def test_ssim_is_that_of_scikit_image(faces: Tensor) -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is in the dev extra")
    a, b = faces[:3] / 255, noisy(faces[1:4] / 255, 0.1)
    ours = ssim_map(a, b, gaussian_window()).numpy()
    inner = (slice(REACH, -REACH), slice(REACH, -REACH))
    for number in range(3):
        _, theirs = metrics.structural_similarity(
            a[number].numpy(), b[number].numpy(), channel_axis=0, data_range=1.0, full=True,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        for channel in range(3):
            assert ours[number, channel][inner] == pytest.approx(theirs[channel][inner], abs=2e-4)


def test_the_window_sums_to_one_and_is_even() -> None:
    window = gaussian_window()
    assert len(window) == 2 * REACH + 1
    assert window.sum() == pytest.approx(1)
    assert torch.allclose(window, window.flip(0))


def test_equal_pictures_are_without_loss(loss: ReconstructionLoss, faces: Tensor) -> None:
    assert torch.allclose(ssim_map(faces / 255, faces / 255, gaussian_window()), torch.ones(1))
    assert loss(faces / 255, faces / 255).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_grows_with_the_difference(loss: ReconstructionLoss, faces: Tensor) -> None:
    values = [loss(noisy(faces / 255, amount), faces / 255).item() for amount in (0, 0.02, 0.1, 0.4)]
    assert values == sorted(values)
    assert values[0] < values[1] < values[-1]


def test_luma_is_that_of_bt_601() -> None:
    colours = torch.eye(3).view(3, 3, 1, 1)
    assert luma(colours).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])


def test_eyes_and_mouth_weigh_most_and_corners_least() -> None:
    template = Template()
    weights = face_weights(template)[0, 0]
    at = [weights[int(y), int(x)].item() for x, y in template.points]
    assert min(at[0], at[1]) > max(at[3], at[4]) > 1.5
    cheek = weights[38, 14].item()
    assert 0.7 < cheek < 1.3
    assert weights[0, 0].item() == pytest.approx(0.1, abs=0.05)
    assert torch.allclose(weights, weights.flip(1), atol=1e-4), "the template is even, so are the weights"


def test_an_error_in_the_face_costs_more_than_one_beside_it(loss: ReconstructionLoss, faces: Tensor) -> None:
    true = faces[:1] / 255

    def with_square(top: int, left: int) -> float:
        wrong = true.clone()
        wrong[..., top : top + 8, left : left + 8] = 1 - wrong[..., top : top + 8, left : left + 8]
        return float(loss(wrong, true))

    assert with_square(22, 17) > 3 * with_square(0, 0)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_gradients_are_numbers_under_bfloat16(loss: ReconstructionLoss, faces: Tensor, level: float) -> None:
    """Flat pictures are the hard case: their variance is a difference of nearly equal numbers."""
    logits = torch.full((4, 3, 64, 64), level, requires_grad=True)
    true = torch.cat([faces[:2] / 255, torch.full((2, 3, 64, 64), level)])
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(torch.sigmoid(logits), true)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert logits.grad.abs().max() > 0


def test_autocast_does_not_change_ssim(faces: Tensor) -> None:
    a, b = faces[:2] / 255, noisy(faces[:2] / 255, 0.05)
    expected = ssim_map(a, b, gaussian_window())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ssim_map(a, b, gaussian_window()), expected)


# ---------------------------------------------------------------- the mask
def test_without_a_mask_there_is_nothing_to_pay_for_it(loss: ReconstructionLoss, faces: Tensor) -> None:
    a, b = noisy(faces / 255, 0.1), faces / 255
    mask = torch.zeros(len(faces), 1, 64, 64)
    assert loss(a, b, mask) > loss(a, b)
    assert loss(a, b, None) == loss(a, b)


def test_a_mask_learns_where_the_face_can_be_trusted(loss: ReconstructionLoss) -> None:
    """The left half of the truth is always the same, the right half nobody can know."""
    generator = torch.Generator().manual_seed(0)
    truths = torch.full((64, 3, 64, 64), 0.5)
    truths[..., 32:] = torch.rand(64, 3, 64, 32, generator=generator)
    decoded = torch.full((1, 3, 64, 64), 0.5, requires_grad=True)
    mask = torch.zeros(1, 1, 64, 64, requires_grad=True)
    optimizer = torch.optim.Adam([decoded, mask], lr=0.1)
    for step in range(120):
        truth = truths[step % 64][None]
        optimizer.zero_grad()
        loss(decoded, truth, mask).backward()
        optimizer.step()
    trust = torch.sigmoid(mask.detach())[0, 0]
    assert trust[:, :28].min() > 0.9
    assert trust[:, 36:].mean() < 0.2
    assert decoded.detach()[..., :32].sub(0.5).abs().mean() < 0.05, "the picture is learnt all the same"


def test_the_mask_does_not_excuse_the_picture(loss: ReconstructionLoss, faces: Tensor) -> None:
    """Else a decoder would doubt what is hard instead of learning it."""
    decoded = noisy(faces[:2] / 255, 0.2).requires_grad_()
    (plain,) = torch.autograd.grad(loss(decoded, faces[:2] / 255), decoded)
    for level in (-3.0, 3.0):
        mask = torch.full((2, 1, 64, 64), level)
        (masked,) = torch.autograd.grad(loss(decoded, faces[:2] / 255, mask), decoded)
        assert torch.equal(masked, plain)
