"""Latents moved towards other people's: how far, which ones, and that a training can use them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoint import Checkpoint
from models.enrol import ENROL, Enrolment, enrol
from models.errors import DataError
from models.estranged import CELLS, SHARE, Relight, estranged, shading
from models.stored import weights_sha256
from models.train import main
from tests.models.conftest import MakePeople
from tests.models.fakes import quick_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = replace(ENROL, updates=48, batch=8, learning_rate=3e-3, warmup_steps=5, seed=1, foreign=0.5)


def moved(strength: float, seed: int = 0, n: int = 400) -> Tensor:
    """Latents of ones, between an own mean of ones and a foreign mean of threes."""
    one = torch.ones(n, 2, 4, 4)
    return estranged(one, one, one * 3, strength, torch.Generator().manual_seed(seed))


def test_some_latents_stay_and_some_go_a_part_of_the_way() -> None:
    way = (moved(0.5) - 1) / 2
    assert torch.equal(way.amin(dim=(1, 2, 3)), way.amax(dim=(1, 2, 3))), "each as a whole"
    way = way[:, 0, 0, 0]
    assert way.min() == 0
    assert 0.4 < way.max() <= 0.5
    assert (way > 0).float().mean() == pytest.approx(SHARE, abs=0.08)


def test_nothing_falls_below_what_a_relu_gives() -> None:
    low = estranged(torch.zeros(50, 2, 4, 4), torch.ones(50, 2, 4, 4), torch.zeros(50, 2, 4, 4), 1.0,
                    torch.Generator().manual_seed(0))  # fmt: skip
    assert low.min() == 0


def test_the_generator_decides() -> None:
    assert torch.equal(moved(0.5, seed=3), moved(0.5, seed=3))
    assert not torch.equal(moved(0.5, seed=3), moved(0.5, seed=4))


def test_shading_is_where_the_light_comes_from_and_not_how_much_there_is() -> None:
    face = torch.full((1, 3, 64, 64), 100.0)
    face[..., :32] = 180.0
    cells = shading(torch.cat([face, face / 2])).view(2, CELLS, CELLS)
    assert cells[0, :, 0].min() > 0.2 > -0.2 > cells[0, :, -1].max()
    assert torch.allclose(cells[0], cells[1], atol=1e-4)


def test_relighting_moves_a_latent_as_shading_does_and_leaves_the_person() -> None:
    generator = torch.Generator().manual_seed(0)
    person = torch.randn(400, 2, 3, 3, generator=generator) * 0.1
    lights = torch.randn(400, CELLS * CELLS, generator=generator)
    effect = torch.randn(CELLS * CELLS, 2, 3, 3, generator=generator)
    latents = person + torch.tensordot(lights, effect, dims=1)
    relight = Relight.fit(latents, lights)
    moved = relight(latents[:1], lights[1:2] - lights[:1])
    assert torch.allclose(moved - torch.tensordot(lights[1:2], effect, dims=1), person[:1], atol=0.2)
    assert torch.equal(relight(latents, lights * 0), latents)


@pytest.fixture
def ann(tmp_path: Path, make_people: MakePeople) -> Path:
    return make_people(tmp_path / "people", "ann") / "ann"


def no_crop(photos: Path, out: Path) -> None:
    raise AssertionError(f"{photos} are crops already, {out}")


def test_an_enrolment_among_foreign_faces_is_another_one_and_can_be_resumed(
    ann: Path, tmp_path: Path, crops: Tensor
) -> None:
    plain = replace(QUICK, sharp_share=0.0, final_rate=1.0)
    others = crops.flip(2)

    def run(out: str, **changes: object) -> str:
        resume = bool(changes.pop("resume", False))
        job = Enrolment("ann", ann, tmp_path / out, replace(plain, **changes), resume=resume)  # type: ignore[arg-type]
        made = Checkpoint.load(enrol(quick_checkpoint("yuna"), job, no_crop, general=others))
        return weights_sha256(made.decoders["ann"])

    whole = run("whole")
    assert run("without", foreign=0.0) != whole
    run("part", updates=24)
    assert run("part", resume=True) == whole


def test_without_foreign_faces_it_is_one_line(ann: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--general"):
        enrol(quick_checkpoint("yuna"), Enrolment("ann", ann, tmp_path / "out", QUICK), no_crop)


def test_decoders_alone_are_trained_on_where_the_encoder_is_frozen(run: Path, tmp_path: Path) -> None:
    people, out = run.parent / "people", tmp_path / "out"
    options = ["--people", people, "--general", people / "will", "--from", run, "--out", out]
    options += ["--freeze-encoder", "--foreign", "0.5", "--updates", "12", "--batch", "6", "--device", "cpu"]
    assert main([str(option) for option in options]) == 0
    before, after = Checkpoint.load(run), Checkpoint.load(out)
    assert weights_sha256(after.encoder) == weights_sha256(before.encoder)
    assert sorted(after.decoders) == sorted(before.decoders)
    changed = [
        n for n in after.decoders if weights_sha256(after.decoders[n]) != weights_sha256(before.decoders[n])
    ]
    assert changed == ["amara", "will"], "all but the universal one"


def test_there_must_be_an_encoder_to_freeze(
    tmp_path: Path, make_people: MakePeople, capsys: pytest.CaptureFixture[str]
) -> None:
    people = make_people(tmp_path / "people", "will")
    options = ["--people", people, "--freeze-encoder", "--updates", "8", "--out", tmp_path / "out"]
    assert main([str(option) for option in options]) == 2
    assert "--freeze-encoder needs --from" in capsys.readouterr().err
