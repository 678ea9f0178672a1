"""The peer: its published size, a short training that learns, resume, and refusals in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import peer_training
from models.errors import CheckpointError
from models.peer import PEER_FILE, Peer, PeerCheckpoint, PeerDecoder, PeerEncoder
from models.peer_training import PeerConfig, PeerTrainer, main
from tests.models.conftest import MakePeople


class Small(nn.Module):
    """A peer of a hundred weights: what is trained here is the loop."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3, padding=1)
        self.decoders = nn.ModuleDict({f"decoder:{name}": nn.Conv2d(4, 3, 3, padding=1) for name in names})

    names = Peer.names
    decoder = Peer.decoder
    each = Peer.each
    forward = Peer.forward


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_it_has_the_size_of_the_original() -> None:
    with torch.device("meta"):
        assert count(PeerEncoder()) == 69_662_976
        assert count(PeerDecoder()) == 6_199_747


def test_shapes_on_the_way() -> None:
    with torch.device("meta"):
        latent = PeerEncoder()(torch.empty(2, 3, 64, 64))
        assert latent.shape == (2, 512, 8, 8)
        assert PeerDecoder()(latent).shape == (2, 3, 64, 64)


def test_each_gives_every_name_its_part(crops: Tensor) -> None:
    network: Peer = Small(["train", "will"])  # type: ignore[assignment]
    rgb = crops[:4].float() / 255
    first, second = network.each(rgb, ["will", "train"])
    torch.testing.assert_close(first, network(rgb[:2], "will"))
    torch.testing.assert_close(second, network(rgb[2:], "train"))


def small_trainer(crops: Tensor, updates: int) -> PeerTrainer:
    torch.manual_seed(0)
    network: Peer = Small(["train", "will"])  # type: ignore[assignment]
    config = PeerConfig(updates=updates, batch=8)
    return PeerTrainer(config, network, {"train": crops, "will": crops[:4]}, torch.device("cpu"))


def test_the_loss_falls_and_the_batch_is_split(crops: Tensor) -> None:
    trainer = small_trainer(crops, 800)
    trainer.optimizer.param_groups[0]["lr"] = 0.02  # so few weights can stand it
    first = trainer.step()
    for _ in range(30):
        trainer.step()
    assert trainer.loss < 0.9 * first
    assert trainer.images == 31 * 8
    assert trainer.seconds > 0


def test_a_resumed_run_sees_the_same_data(crops: Tensor) -> None:
    whole, half = small_trainer(crops, 800), small_trainer(crops, 800)
    losses = [whole.step() for _ in range(6)]
    for _ in range(3):
        half.step()
    again = small_trainer(crops, 800)
    again.network.load_state_dict(half.network.state_dict())
    again.restore(half.state())
    assert [again.step() for _ in range(3)] == pytest.approx(losses[3:])
    assert again.images == whole.images


def test_state_of_nothing_is_refused(crops: Tensor) -> None:
    with pytest.raises(CheckpointError, match="no state"):
        small_trainer(crops, 8).restore({})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with the small network; its file is written by the real code."""
    monkeypatch.setattr(peer_training, "Peer", Small)


@pytest.mark.usefixtures("small")
def test_the_command_writes_checkpoint_log_and_preview(
    tmp_path: Path, make_people: MakePeople, capsys: pytest.CaptureFixture[str]
) -> None:
    people, out = make_people(tmp_path / "people", "will", "amara"), tmp_path / "out"
    options = ["--people", str(people), "--out", str(out), "--batch", "4", "--updates", "12"]
    assert main(options) == 0
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["images"] == 12 and rows[-1]["seconds"] > 0
    assert {p.name for p in out.iterdir()} == {PEER_FILE, "log.jsonl", "preview.png"}
    assert main(options) == 2
    assert "already holds a peer" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_only_an_unfinished_run_keeps_its_state(crops: Tensor, tmp_path: Path) -> None:
    trainer = small_trainer(crops, 16)
    kept = []
    for _ in range(2):
        trainer.step()
        peer_training.save(trainer, {}, tmp_path)
        kept.append(bool(torch.load(tmp_path / PEER_FILE, weights_only=True)["training"]))
    assert kept == [True, False]


def test_a_budget_is_asked_for(
    tmp_path: Path, make_people: MakePeople, capsys: pytest.CaptureFixture[str]
) -> None:
    people = make_people(tmp_path / "people", "will")
    assert main(["--people", str(people), "--out", str(tmp_path / "out")]) == 2
    assert "say how long" in capsys.readouterr().err


def test_general_faces_are_a_side_of_their_own(tmp_path: Path, make_people: MakePeople) -> None:
    people = make_people(tmp_path / "people", "will", "amara", count=3)
    general = make_people(tmp_path / "general", "Somebody", count=2)
    sides = peer_training.peer_data(people, [general])
    assert {name: len(crops) for name, crops in sides.items()} == {"universal": 2, "amara": 3, "will": 3}


@pytest.mark.slow
def test_a_checkpoint_comes_back(tmp_path: Path, faces: Tensor) -> None:
    torch.manual_seed(0)
    network = Peer(["universal", "will"])
    PeerCheckpoint(network, {"images": 0}).save(tmp_path / PEER_FILE)
    loaded = PeerCheckpoint.load(tmp_path)
    assert loaded.identities == ["will"]
    with torch.no_grad():
        picture = faces[:1] / 255
        assert torch.equal(loaded.network(picture, "will"), network(picture, "will"))


def test_a_file_that_is_no_peer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"models\.peer_training"):
        PeerCheckpoint.load(tmp_path)
    for content in (b"nothing", b""):
        (tmp_path / PEER_FILE).write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            PeerCheckpoint.load(tmp_path)
    torch.save({"format": "another"}, tmp_path / PEER_FILE)
    with pytest.raises(CheckpointError, match="no peer of this version"):
        PeerCheckpoint.load(tmp_path)
