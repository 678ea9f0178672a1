"""Training on a real CUDA device; everywhere else these skip. `pytest -m gpu` runs only them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models import train
from models.checkpoint import Checkpoint
from models.stored import weights_sha256
from tests.models.conftest import MakePeople
from tests.models.fakes import small_checkpoint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here"),
]


def test_a_run_on_cuda_leaves_a_checkpoint_for_any_machine(tmp_path: Path, make_people: MakePeople) -> None:
    people = make_people(tmp_path / "people", "will", "amara")
    options = ["--people", str(people), "--out", str(tmp_path / "out"), "--device", "cuda", "--batch", "6"]
    assert train.main([*options, "--updates", "60"]) == 0
    assert train.main([*options, "--updates", "90", "--resume"]) == 0
    checkpoint = Checkpoint.load(tmp_path / "out")
    assert checkpoint.facts["updates"] >= 90
    parameters = [p for decoder in checkpoint.decoders.values() for p in decoder.parameters()]
    assert all(p.device.type == "cpu" and p.isfinite().all() for p in parameters)
    assert len(list((tmp_path / "out" / "previews").iterdir())) == 2


def test_a_person_enrolled_on_cuda_leaves_the_encoder_as_it_was(
    tmp_path: Path, make_people: MakePeople
) -> None:
    people = make_people(tmp_path / "people", "ann", "bob")
    small_checkpoint("yuna").save(tmp_path / "base.pt")
    options = ["--all", str(people), "--from", str(tmp_path / "base.pt"), "--out", str(tmp_path / "out")]
    assert train.main([*options, "--updates", "64", "--batch", "8", "--device", "cuda"]) == 0
    assert train.main([*options, "--updates", "96", "--batch", "8", "--device", "cuda"]) == 0
    for name in ("ann", "bob"):
        made = Checkpoint.load(tmp_path / "out" / name)
        assert made.facts["updates"] >= 96
        assert weights_sha256(made.encoder) == weights_sha256(small_checkpoint("yuna").encoder)
