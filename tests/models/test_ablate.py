"""The ablation: rows that differ in one thing, made once each, in a table."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models import ablate
from models.ablate import RESULTS, TABLE, TRAINED, chosen_rows, main, open_results, table
from models.ablation_rows import ROWS, Ablation
from models.augment import AugmentConfig
from models.autoencoder import Encoder, EncoderConfig
from models.dataset import held_out
from models.decoders import Decoder, DecoderConfig
from models.errors import DataError, DivergedError
from models.trainer import TrainConfig
from tests.models.conftest import MakePeople
from tests.models.fakes import ColourJudge


def test_rows_have_names_of_their_own_and_change_something() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS[1:]:
        assert row.encoder or row.train or row.augment or row.photos or row.peer or not row.general, row.name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_can_be_configured(row: Ablation) -> None:
    assert replace(TrainConfig(), **row.train) != TrainConfig() or not row.train
    assert replace(AugmentConfig(), **row.augment) != AugmentConfig() or not row.augment
    config = EncoderConfig(**row.encoder)
    assert config != EncoderConfig() or not row.encoder
    with torch.no_grad():
        latent = Encoder(config)(torch.full((1, 3, 64, 64), 90.0))
        assert Decoder(DecoderConfig(latent_channels=config.latent_channels))(latent).shape[2:] == (64, 64)


def test_rows_by_name() -> None:
    assert [row.name for row in chosen_rows(["peer", "best"])] == ["peer", "best"]
    assert chosen_rows(None) == list(ROWS)
    with pytest.raises(DataError, match="no row is called nothing; there are best"):
        chosen_rows(["nothing"])


def test_results_of_another_budget_are_not_mixed(tmp_path: Path) -> None:
    settings = {"updates": 10, "minutes": None, "seed": 0}
    assert open_results(tmp_path / RESULTS, settings) == {"settings": settings, "rows": {}}
    (tmp_path / RESULTS).write_text(json.dumps({"settings": settings, "rows": {"best": {}}}))
    assert "best" in open_results(tmp_path / RESULTS, settings)["rows"]
    with pytest.raises(DataError, match="choose another --out"):
        open_results(tmp_path / RESULTS, settings | {"seed": 1})
    (tmp_path / RESULTS).write_text("[]")
    with pytest.raises(DataError, match="holds no results"):
        open_results(tmp_path / RESULTS, settings)


def test_the_table_keeps_the_order_of_the_rows() -> None:
    figures = {"top1": 0.9, "face_found": 1.0}
    row: dict[str, Any] = {
        "change": "this",
        "images": 12,
        "mean": figures,
        "identities": {"will": figures, "amara": {"top1": 0.25}},
        "exposure": {
            "rows": {"will": {"brightest": figures}, "amara": {"brightest": {**figures, "top1": 0.125}}}
        },
    }  # fmt: skip
    lines = table({"rows": {"peer": row, "best": row}}).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["best", "peer"]
    assert "| 0.25 | 0.125 | 1 |" in lines[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, make_people: MakePeople) -> Path:
    """Crops of two people, of the same two held out, and of 130 others, most of them held out."""
    root = tmp_path_factory.mktemp("ablate")
    make_people(root / "people", "will", "amara", count=4)
    make_people(root / "held", "will", "amara", count=4)
    strangers = [name for name in (f"Stranger_{n}" for n in range(2000)) if held_out(name)][:106]
    for number, name in enumerate([*strangers, "Seen_1", "Seen_2"]):
        make_people(root / "some" / str(number % 18), name, count=1)
    general = root / "general"
    general.mkdir()
    for folder in (root / "some").glob("*/*"):
        folder.rename(general / folder.name)
    return root


def test_a_row_is_trained_measured_and_not_made_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablate, "DlibJudge", ColourJudge)
    monkeypatch.setattr(
        ablate, "ROWS", (Ablation("best", "a small pool", train={"pool_steps": 2, "batch": 8}),)
    )
    options = ["--people", world / "people", "--general", world / "general", "--held-out", world / "held"]
    options += ["--out", tmp_path, "--updates", "32", "--count", "4", "--others", "10", "--processes", "1"]
    given = [str(option) for option in [*options, "--rows", "best", "--device", "cpu"]]
    assert main([*given, "--train-only"]) == 0
    assert (tmp_path / "best" / TRAINED).exists() and not (tmp_path / RESULTS).exists()
    assert main(given) == 0
    results = json.loads((tmp_path / RESULTS).read_text())
    row = results["rows"]["best"]
    assert row["images"] == 32 and set(row["identities"]) == {"will", "amara"}
    assert row["exposure"]["sources"] == {"darkest": 4, "brightest": 4}
    assert "| best |" in (tmp_path / TABLE).read_text()
    monkeypatch.setattr(ablate, "train_row", None)  # would be called for a row that is not done
    assert main(given) == 0
    assert json.loads((tmp_path / RESULTS).read_text()) == results


def test_a_row_that_fails_does_not_stop_the_others(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(row: Ablation, *_: object) -> dict[str, Any]:
        if row.name == "best":
            raise DivergedError("no finite loss")
        (tmp_path / row.name).mkdir()
        return {"images": 0}

    monkeypatch.setattr(ablate, "train_row", fails)
    options = argparse.Namespace(
        people=world / "people", general=[world / "general"], out=tmp_path, device="cpu"
    )
    rows = chosen_rows(["best", "no-warp"])
    assert ablate.train_all(rows, options, {}) == rows[:1]
    assert (tmp_path / "no-warp" / TRAINED).exists()


def test_a_budget_is_asked_for(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--people", world / "people", "--general", world / "general", "--held-out", world / "held"]
    assert main([str(option) for option in [*options, "--out", tmp_path]]) == 2
    assert "say how long to train a row" in capsys.readouterr().err
