"""similarity, invert and resample, by their properties."""

from __future__ import annotations

import numpy as np
import pytest

from faceswap import Image, Landmarks
from faceswap.alignment import DEFAULT_TEMPLATE, Template, align, invert, resample, similarity, transform
from faceswap.faces import Matrix, Points


def matrix_of(angle: float, scale: float, x: float, y: float) -> Matrix:
    """Turn by `angle` degrees, scale, shift, as (2, 3)."""
    a = scale * np.exp(1j * np.radians(angle))
    return np.array([[a.real, -a.imag, x], [a.imag, a.real, y]])


MATRICES = [matrix_of(0, 1, 0, 0), matrix_of(30, 0.2, 5, -7), matrix_of(-135, 3.5, -40, 900)]


def points(seed: int = 0) -> Points:
    return np.random.default_rng(seed).uniform(0, 500, (5, 2))


def smooth(width: int, height: int) -> np.ndarray:
    """Gradients in x and y: interpolation is exact on them."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    planes = np.broadcast_arrays(x[None, :] * 255 / width, y[:, None] * 255 / height, 128.0)
    return np.asarray(np.rint(np.stack(planes, axis=-1)), dtype=np.uint8)


@pytest.mark.parametrize("matrix", MATRICES)
def test_similarity_finds_the_motion(matrix: Matrix) -> None:
    assert np.allclose(similarity(points(), transform(points(), matrix)), matrix)


def test_similarity_never_mirrors() -> None:
    mirrored = points() * (-1, 1)
    matrix = similarity(points(), mirrored)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_similarity_is_the_least_squares_one() -> None:
    target = points(1)
    best = similarity(points(), target)
    error = np.square(transform(points(), best) - target).sum()
    for nudge in np.random.default_rng(2).normal(0, 1e-3, (20, 4)):
        a, b, x, y = nudge
        other = best + np.array([[a, -b, x * 100], [b, a, y * 100]])
        assert np.square(transform(points(), other) - target).sum() >= error


@pytest.mark.parametrize("matrix", MATRICES)
def test_invert_undoes(matrix: Matrix) -> None:
    assert np.allclose(transform(transform(points(), matrix), invert(matrix)), points())


def test_resample_by_the_identity_gives_the_picture_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(resample(pixels, np.eye(2, 3), 64), pixels)


def test_resample_by_whole_pixels_cuts_out() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    assert np.array_equal(resample(pixels, matrix_of(0, 1, -13, -29), 64), pixels[29:93, 13:77])


def test_resample_by_a_quarter_turn_only_moves_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    turned = resample(pixels, matrix_of(90, 1, 64, 0), 64)
    assert np.abs(turned.astype(int) - np.rot90(pixels, -1)).max() <= 1


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 4.0])
def test_resample_puts_every_point_where_the_matrix_says(scale: float) -> None:
    width, height = 1600, 1200
    matrix = matrix_of(20, scale, 0, 0)
    matrix[:, 2] = 32 - matrix[:, :2] @ (800, 600)  # the picture's centre to the crop's
    crop = resample(smooth(width, height), matrix, 64)
    grid = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), axis=-1).reshape(-1, 2)
    there = transform(grid, invert(matrix))
    inside = ((there > (8, 8)) & (there < (width - 8, height - 8))).all(axis=1)
    expected = there * (255 / width, 255 / height)
    error = np.abs(crop.reshape(-1, 3)[inside, :2] - expected[inside])
    assert inside.sum() > 1000
    assert error.max() < 2


def test_resample_averages_when_it_shrinks() -> None:
    checkers = (np.indices((640, 640)).sum(axis=0) % 2 * 255).astype(np.uint8)
    crop = resample(np.repeat(checkers[..., None], 3, axis=2), matrix_of(0, 0.1, 0, 0), 64)
    inside = crop[2:-2, 2:-2]  # beyond the border there is no checkerboard to average
    assert 125 <= inside.min() <= inside.max() <= 130


def test_beyond_the_picture_its_edge_is_repeated() -> None:
    pixels = np.full((20, 20, 3), 90, np.uint8)
    pixels[:, :10] = 200
    crop = resample(pixels, matrix_of(0, 1, 22, 22), 64)
    assert (crop[:, 2:30] == 200).all()
    assert (crop[:, 35:62] == 90).all()


def test_a_picture_far_away_from_the_window_gives_its_nearest_edge() -> None:
    pixels = np.full((20, 20, 3), 90, np.uint8)
    assert (resample(pixels, matrix_of(0, 1, 1000, 1000), 64) == 90).all()


def test_align_puts_the_landmarks_on_the_template() -> None:
    template = Template()
    where = transform(template.points, matrix_of(-25, 3, 150, 90))
    pixels = np.zeros((400, 500, 3), np.uint8)
    for x, y in where:
        pixels[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5] = 255
    crop = align(Image(pixels), Landmarks(where))
    assert np.allclose(transform(where, crop.matrix), template.points)
    bright = np.argwhere(crop.pixels[..., 0] > 128)[:, ::-1] + 0.5
    distance = np.linalg.norm(bright[:, None] - template.points[None], axis=2)
    assert distance.min(axis=1).max() < 3
    assert distance.min(axis=0).max() < 1.5


def test_a_template_with_margin_shows_the_same_face_in_its_middle() -> None:
    template = Template(DEFAULT_TEMPLATE).with_margin(8)
    assert template.size == 80
    assert np.allclose(template.points, Template().points + 8)


def test_a_margin_keeps_the_pixels() -> None:
    pixels = smooth(300, 300)
    where = Landmarks(transform(Template().points, matrix_of(10, 2, 80, 60)))
    small, large = align(Image(pixels), where), align(Image(pixels), where, Template().with_margin(8))
    difference = np.abs(large.pixels[8:-8, 8:-8].astype(int) - small.pixels)
    assert difference.max() <= 1
