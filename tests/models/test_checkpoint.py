"""A checkpoint: whole or not at all, read without running its code, refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from faceswap.alignment import Template
from models.autoencoder import Encoder
from models.checkpoint import FORMAT, UNIVERSAL, Checkpoint
from models.decoders import Decoder
from models.errors import CheckpointError
from models.previews import swap_tensor
from models.stored import weights_sha256
from tests.models.fakes import SMALL_DECODER, SMALL_ENCODER, small_checkpoint


def checkpoint(seed: int = 0, **facts: Any) -> Checkpoint:
    made = small_checkpoint("will", "amara", seed=seed)
    made.facts = {"seed": seed} | facts
    return made


def format_1() -> dict[str, Any]:
    """A checkpoint's content as version 0.1 wrote it: no tone, no mask, no `reach`."""
    torch.manual_seed(0)
    encoder = Encoder(replace(SMALL_ENCODER, normalise_tone=False))
    config = {"latent_channels": 8, "channels": (16, 16, 8, 8), "residual": True}
    decoder = Decoder(replace(SMALL_DECODER, mask=False)).state_dict()
    kept = ("layer", "squeezed", "strided", "width", "latent_channels")
    return {
        "format": 1,
        "encoder_config": {name: getattr(SMALL_ENCODER, name) for name in kept},
        "encoder": encoder.state_dict(),
        "decoder_configs": {"will": config, UNIVERSAL: config},
        "decoders": {
            name: {key: value for key, value in decoder.items() if key not in {"low", "high"}}
            for name in ("will", UNIVERSAL)
        },
        "template": [list(pair) for pair in Template().shares],
        "facts": {"seed": 0},
        "records": {"will": {"licence": "CC0-1.0"}},
        "previews": {"will": torch.zeros(3, 64, 64, dtype=torch.uint8)},
        "training": {"raw": {}, "progress": {"step": 3}},
    }


def faces_of_format_1(content: dict[str, Any], rgb: Tensor) -> Tensor:
    """What version 0.1 computed from it: the sigmoid of three logits of the bottleneck's latent."""
    encoder, decoder = Encoder(SMALL_ENCODER), Decoder(replace(SMALL_DECODER, mask=False))
    encoder.load_state_dict(content["encoder"])
    decoder.load_state_dict(content["decoders"]["will"], strict=False)
    latent = encoder.bottleneck(encoder.vgg(rgb) * encoder.scale)
    return torch.sigmoid(decoder.to_rgb(decoder.blocks(latent))) * 255


class Interruption:
    """Stops a save in its middle, where the first half of the file has been written."""

    def __reduce__(self) -> str:
        raise KeyboardInterrupt


class Intruder:
    """Would make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(path)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = checkpoint()
    saved.save(tmp_path / "run" / "checkpoint.pt")
    loaded = Checkpoint.load(tmp_path / "run")
    assert loaded.identities == ["amara", "will"], "the universal decoder is nobody"
    for name in ("template", "facts", "records", "training"):
        assert getattr(loaded, name) == getattr(saved, name)
    rgb = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        latent = saved.encoder(rgb)
        assert torch.equal(loaded.encoder(rgb), latent)
        assert torch.equal(loaded.decoders["will"](latent), saved.decoders["will"](latent))
    assert torch.equal(loaded.previews["will"], saved.previews["will"])


def test_the_faces_of_format_1_are_what_they_were(tmp_path: Path, faces: Tensor) -> None:
    content = format_1()
    torch.nn.init.normal_(content["encoder"]["scale"])
    with torch.no_grad():
        expected = faces_of_format_1(content, faces[:3])
    torch.save(content, tmp_path / "checkpoint.pt")
    old = Checkpoint.load(tmp_path)
    assert torch.allclose(swap_tensor(old.encoder, old.decoders["will"], faces[:3]), expected, atol=1e-3)
    assert expected.std() > 1
    assert old.facts == {"seed": 0}
    assert not old.training, "another optimiser's state is of no use"


def test_format_1_comes_out_as_format_2(tmp_path: Path, faces: Tensor) -> None:
    torch.save(format_1(), tmp_path / "checkpoint.pt")
    old = Checkpoint.load(tmp_path)
    old.save(tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["format"] == FORMAT
    new = Checkpoint.load(tmp_path)
    for name, decoder in old.decoders.items():
        assert weights_sha256(new.decoders[name]) == weights_sha256(decoder)
    with torch.no_grad():
        assert torch.equal(new.encoder(faces[:1]), old.encoder(faces[:1]))


def test_a_damaged_one_of_format_1_is_one_line_as_well(tmp_path: Path) -> None:
    for part in ("encoder_config", "decoder_configs", "decoders"):
        content = format_1()
        del content[part]
        torch.save(content, tmp_path / "checkpoint.pt")
        assert "does not fit this version" in refusal(tmp_path)


def test_a_crash_while_writing_leaves_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint(seed=1).save(path)
    with pytest.raises(KeyboardInterrupt):
        checkpoint(seed=2, trap=Interruption()).save(path)
    assert Checkpoint.load(path).facts == {"seed": 1}
    checkpoint(seed=3).save(path)
    assert Checkpoint.load(path).facts == {"seed": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_crash_at_the_first_save_leaves_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        checkpoint(trap=Interruption()).save(tmp_path / "checkpoint.pt")
    assert "no checkpoint at" in refusal(tmp_path)


def test_code_inside_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"format": FORMAT, "facts": Intruder(tmp_path / "made")}, tmp_path / "checkpoint.pt")
    assert "cannot be read as a checkpoint" in refusal(tmp_path)
    assert not (tmp_path / "made").exists()
    torch.load(tmp_path / "checkpoint.pt", weights_only=False)
    assert (tmp_path / "made").exists(), "the test could not tell"


def test_a_missing_one_says_how_to_make_one(tmp_path: Path) -> None:
    assert refusal(tmp_path / "run").endswith("make one with: python -m models.train")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    assert "cannot be read as a checkpoint" in refusal(tmp_path)


def test_a_truncated_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot be read as a checkpoint" in refusal(path)


@pytest.mark.parametrize("content", [{"format": FORMAT + 1}, {"state_dict": {}}, [1, 2], torch.zeros(2)])
def test_a_torch_file_of_another_format(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    assert refusal(tmp_path).endswith(f"is no faceswapd checkpoint of format 1 or {FORMAT}")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("template", None),
        ("encoder_config", {"layer": "block4_conv1", "novelty": 1}),
        ("encoder", {"scale": torch.zeros(1)}),
        ("decoder_configs", {"will": {"latent_channels": 9}}),
        ("decoders", {}),
    ],
)
def test_one_whose_parts_do_not_fit(tmp_path: Path, part: str, value: Any) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint().save(path)
    content = torch.load(path, weights_only=True)
    content[part] = value
    if value is None:
        del content[part]
    torch.save(content, path)
    assert "does not fit this version" in refusal(path)


def test_the_name_of_weights_follows_the_weights_only() -> None:
    decoder = checkpoint().decoders["will"]
    name = weights_sha256(decoder)
    assert weights_sha256(checkpoint().decoders["will"]) == name
    assert weights_sha256(decoder.to(torch.float64)) == name
    with torch.no_grad():
        decoder.to_rgb.bias[0] += 1e-3  # type: ignore[index]
    assert weights_sha256(decoder) != name
