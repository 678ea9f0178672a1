"""The sheet of pictures that a run leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from models.previews import save_previews, sheet, swap_tensor
from tests.models.fakes import small_networks


def test_a_sheet_has_a_row_for_each_source_and_a_column_for_each_decoder() -> None:
    columns = [torch.full((2, 3, 64, 64), float(grey)) for grey in (10, 20, 30)]
    columns[1][1] = 99.4
    columns[2][0] = 300
    pixels = np.asarray(sheet(columns))
    assert pixels.shape == (2 * 64, 3 * 64, 3)
    corners = pixels[::64, ::64, 0].tolist()
    assert corners == [[10, 20, 255], [10, 99, 30]]


def test_a_preview_holds_the_sources_and_what_the_decoders_make_of_them(
    tmp_path: Path, faces: Tensor
) -> None:
    encoder, decoders = small_networks("will")
    save_previews(tmp_path / "previews" / "1.png", encoder, decoders, faces[:3])
    with PillowImage.open(tmp_path / "previews" / "1.png") as file:
        pixels = np.asarray(file)
    assert pixels.shape == (3 * 64, 3 * 64, 3)
    assert np.array_equal(pixels[:64, :64], faces[0].byte().permute(1, 2, 0).numpy())
    will = swap_tensor(encoder, decoders["will"], faces[:1])[0]
    assert np.array_equal(pixels[:64, 128:], will.round().byte().permute(1, 2, 0).numpy())
    assert will.min() >= 0 and will.max() <= 255


def test_a_swap_is_the_decoders_colours_without_its_mask(faces: Tensor) -> None:
    encoder, decoders = small_networks("will")
    with torch.no_grad():
        given = decoders["will"](encoder(faces[:2]))
    assert given.shape == (2, 4, 64, 64)
    assert torch.equal(swap_tensor(encoder, decoders["will"], faces[:2]), given[:, :3] * 255)


def test_a_swap_is_exact_under_autocast(faces: Tensor) -> None:
    encoder, decoders = small_networks("will")
    expected = swap_tensor(encoder, decoders["will"], faces[:2])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(swap_tensor(encoder, decoders["will"], faces[:2]), expected)
