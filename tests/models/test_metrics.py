"""What swaps are measured by: each figure on pictures whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from torch import Tensor

from faceswap.detection import LibFaceDetection
from models import metrics as m
from models.judge import face_mask


@pytest.fixture(scope="module")
def pictures(faces: Tensor) -> m.Faces:
    """(12, 64, 64, 3) real faces."""
    return faces.permute(0, 2, 3, 1).byte().numpy()


@pytest.fixture(scope="module")
def mask() -> m.Mask:
    return face_mask()


def lit(pictures: m.Faces, strength: np.ndarray) -> m.Faces:
    """The same faces with light from the right where `strength` (N,) is positive, else from the left."""
    ramp = np.linspace(-1, 1, 64)[None, None, :, None] * strength[:, None, None, None]
    shaded: m.Faces = np.clip(pictures * (1 + ramp), 0, 255).astype(np.uint8)
    return shaded


def test_equal_pictures(pictures: m.Faces, mask: m.Mask) -> None:
    assert m.ssim(pictures, pictures, mask) == pytest.approx(1, abs=1e-4)
    assert m.psnr(pictures, pictures, mask) > 100


def test_psnr_of_a_known_error(pictures: m.Faces, mask: m.Mask) -> None:
    even = np.full_like(pictures, 100)
    assert m.psnr(even, even + np.uint8(16), mask) == pytest.approx(20 * math.log10(255 / 16))


def test_ssim_and_psnr_fall_with_the_error(pictures: m.Faces, mask: m.Mask) -> None:
    noise = np.random.default_rng(0).normal(0, 1, pictures.shape)
    worse = [np.clip(pictures + noise * amount, 0, 255).astype(np.uint8) for amount in (2, 10, 40)]
    for measure in (m.ssim, m.psnr):
        values = [measure(decoded, pictures, mask) for decoded in worse]
        assert values == sorted(values, reverse=True)


def test_only_the_face_is_measured(pictures: m.Faces, mask: m.Mask) -> None:
    other = pictures.copy()
    other[:, ~mask] = 0
    assert m.psnr(other, pictures, mask) > 100
    assert m.ssim(other, pictures, mask) > 0.7, "only windows that reach over the edge differ"


def test_the_mask_is_even_and_holds_eyes_and_mouth(mask: m.Mask) -> None:
    assert mask.shape == (64, 64)
    assert np.array_equal(mask, mask[:, ::-1])
    assert 0.3 < mask.mean() < 0.6
    assert mask[26, 22] and mask[26, 42] and mask[48, 32]
    assert not mask[0].any() and not mask[:, 0].any()


def test_top1_counts_the_nearest() -> None:
    gallery = np.eye(4, 128)
    swaps = gallery[[2, 2, 2, 1]] * 0.9
    assert m.top1(swaps, gallery, 2) == 0.75
    assert m.top1(swaps, gallery, 0) == 0


def test_distances() -> None:
    a = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert m.mean_distance(a, a) == 0
    assert m.mean_distance(a, np.zeros(2)) == 2.5
    assert m.all_pairs_distance(a, a) == 2.5
    assert m.all_pairs_distance(a, np.array([[0.0, 0.0]])) == 2.5


def test_light_has_a_side(pictures: m.Faces, mask: m.Mask) -> None:
    first = np.repeat(pictures[:1], 3, axis=0)
    left, plain, right = m.light_asymmetry(lit(first, np.array([-0.5, 0.0, 0.5])), mask)
    assert left < plain < right
    mirrored = m.light_asymmetry(first[:1, :, ::-1], mask)
    assert mirrored[0] == pytest.approx(-plain)


def test_light_correlation_has_the_right_sign(pictures: m.Faces, mask: m.Mask) -> None:
    strength = np.random.default_rng(0).uniform(-0.6, 0.6, len(pictures))
    alike = np.repeat(pictures[:1], len(pictures), axis=0)
    source = lit(alike, strength)
    assert m.light_correlation(source, lit(alike[:, ::-1], strength), mask) > 0.9
    assert m.light_correlation(source, lit(alike, -strength), mask) < -0.9


def test_landmarks_of_crops_lie_on_the_template(pictures: m.Faces) -> None:
    found = m.landmarks(LibFaceDetection(), pictures)
    points = [p for p in found if p is not None]
    assert len(points) >= len(pictures) - 1
    mean = np.mean(points, axis=0)
    expected = np.array([(0.342, 0.40), (0.658, 0.40), (0.50, 0.57), (0.37, 0.745), (0.63, 0.745)]) * 64
    assert np.abs(mean - expected).max() < 3
    black = np.zeros((1, 64, 64, 3), np.uint8)
    assert m.landmarks(LibFaceDetection(), black) == [None]


def test_landmark_error_is_a_share_of_the_eye_distance() -> None:
    points = np.array([[20.0, 25], [40, 25], [30, 35], [22, 45], [38, 45]])
    assert m.landmark_error([points, points], [points, points + np.array((3, 4))]) == pytest.approx(
        (0 + 5 / 20) / 2
    )
    assert m.landmark_error([points, points], [points, None]) == 0
    assert math.isnan(m.landmark_error([points], [None])), "nothing was measured"
