"""The words of the library check their shapes."""

from __future__ import annotations

import numpy as np
import pytest

from faceswap import Box, Image, Landmarks


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
    ids=["grey", "four channels", "floats"],
)
def test_an_image_is_rgb_uint8(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        Image(pixels)


def test_landmarks_are_five_points() -> None:
    with pytest.raises(ValueError, match="five"):
        Landmarks(np.zeros((4, 2)))


def test_a_grown_box_keeps_its_centre() -> None:
    box = Box(10, 20, 30, 60).grown(2)
    assert (box.left, box.top, box.right, box.bottom) == (0, 0, 40, 80)
    assert box.area == 3200


def test_a_box_turned_inside_out_has_no_area() -> None:
    assert Box(10, 10, 5, 5).area == 0
