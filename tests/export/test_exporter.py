"""Checkpoint to bundle: what is written, what stays as it was, and what is refused in one line."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from export.__main__ import main
from export.bundle import ExportError
from export.exporter import Request, export, read_metrics
from export.parity import ParityError
from export.to_onnx import OPSET
from faceswap import Swapper
from faceswap.alignment import DEFAULT_TEMPLATE
from faceswap.bundle import Bundle
from faceswap.errors import UnknownIdentityError
from faceswap.faces import Pixels
from models.autoencoder import Encoder, EncoderConfig
from models.checkpoint import UNIVERSAL, Checkpoint
from models.decoders import Decoder
from models.stored import weights_sha256
from tests.export.conftest import DECODER, RECORD, changed
from tests.export.folders import contents


def entries(bundle: Bundle) -> dict[str, str]:
    """identity -> its entry in the manifest, as text."""
    return {entry.name: entry.model_dump_json() for entry in bundle.manifest.identities}


def retrained(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """The checkpoint with a new decoder for `name`."""
    torch.manual_seed(99)
    return changed(checkpoint, decoders={**checkpoint.decoders, name: Decoder(DECODER)})


# ---------------------------------------------------------------- a new bundle
def test_the_library_opens_it_and_swaps(exported: Bundle, faces: Pixels) -> None:
    swapper = Swapper.open(exported.folder, "cpu", threads=1)
    assert swapper.identities == ("amara", "will")
    amara, will = (swapper.decode(swapper.encode(faces), name) for name in swapper.identities)
    assert amara.shape == will.shape == faces.shape
    assert not np.array_equal(amara, will)


def test_the_manifest_tells_where_everything_comes_from(exported: Bundle, checkpoint: Checkpoint) -> None:
    manifest = exported.manifest
    assert (manifest.name, manifest.opset, manifest.schema_version) == ("small", OPSET, 1)
    assert manifest.crop.template == DEFAULT_TEMPLATE
    assert manifest.latent.shape == (131, 4, 4)
    assert manifest.encoder.weights_sha256 == weights_sha256(checkpoint.encoder)
    assert manifest.encoder.training["updates"] == 40
    assert manifest.encoder.training["config"] == {"seed": 7, "betas": [0.5, 0.99]}
    assert manifest.encoder.training["loss"] is None, "JSON has no NaN"
    will = exported.identity("will")
    assert (will.licence, will.consent.model_dump()) == (RECORD["licence"], RECORD["consent"])
    assert (will.training, will.metrics) == ({"crops": 8, "updates": 40}, {})
    assert will.encoder_sha256 == manifest.encoder.weights_sha256


def test_the_manifest_is_json_that_any_program_reads(exported: Bundle) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((exported.folder / "manifest.json").read_text(), parse_constant=refuse)


def test_files_are_named_by_their_content_and_nothing_else_lies_there(exported: Bundle) -> None:
    files = {entry.path: entry.sha256 for entry in exported.manifest.files}
    assert set(contents(exported.folder)) == {"manifest.json", *files}
    assert all(sha256[:8] in path for path, sha256 in files.items())
    kinds = sorted(path.split("-")[0] for path in files)
    assert kinds[:3] == ["decoders/amara", "decoders/will", "encoder"]
    assert kinds[3:] == ["previews/amara", "previews/will", "universal"]


def test_the_universal_decoder_travels_along_and_is_nobody_to_serve(exported: Bundle) -> None:
    universal = exported.manifest.universal
    assert universal is not None
    assert universal in exported.manifest.files
    assert len(exported.read(universal)) == universal.bytes
    assert UNIVERSAL not in [entry.name for entry in exported.manifest.identities]
    with pytest.raises(UnknownIdentityError):
        Swapper.open(exported.folder, "cpu", threads=1).check(UNIVERSAL)


def test_a_checkpoint_without_a_universal_decoder_is_exported_without(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    only = {name: decoder for name, decoder in checkpoint.decoders.items() if name != UNIVERSAL}
    bundle = export(changed(checkpoint, decoders=only), tmp_path / "out", Request(names=["will"]))
    assert bundle.manifest.universal is None


def test_adding_keeps_the_universal_decoder_that_the_bundle_had(
    folder: Path, exported: Bundle, checkpoint: Checkpoint
) -> None:
    """Also where the checkpoint has none, or has trained its own further."""
    only = {name: decoder for name, decoder in checkpoint.decoders.items() if name != UNIVERSAL}
    without = export(changed(checkpoint, decoders=only), folder, Request(names=["yuna"]))
    assert without.manifest.universal == exported.manifest.universal
    other = export(retrained(checkpoint, UNIVERSAL), folder, Request(names=["yuna"]))
    assert other.manifest.universal == exported.manifest.universal
    assert other.read(exported.manifest.universal)  # type: ignore[arg-type]


def test_a_preview_is_made_by_the_decoder_and_marked_as_synthetic(
    exported: Bundle, checkpoint: Checkpoint
) -> None:
    entry = exported.identity("will").preview
    assert entry is not None
    data = exported.read(entry)
    pixels = np.asarray(PillowImage.open(io.BytesIO(data)))
    crop = checkpoint.previews["will"]
    with torch.no_grad():
        decoded = checkpoint.decoders["will"](checkpoint.encoder(crop[None].float()))[0, :3]
    assert np.abs(pixels - decoded.permute(1, 2, 0).numpy() * 255).max() <= 0.51
    assert not np.array_equal(pixels, crop.permute(1, 2, 0).numpy()), "no photo travels with the bundle"
    assert b"trainedAlgorithmicMedia" in data


# ---------------------------------------------------------------- changing one
def test_adding_an_identity_leaves_the_others_byte_for_byte(
    folder: Path, exported: Bundle, checkpoint: Checkpoint
) -> None:
    before = contents(folder)
    bundle = export(checkpoint, folder, Request("small", ["yuna"]))
    after = contents(folder)
    assert {path: data for path, data in after.items() if path in before and path != "manifest.json"} == {
        path: data for path, data in before.items() if path != "manifest.json"
    }
    assert sorted(path.split("-")[0] for path in set(after) - set(before)) == [
        "decoders/yuna",
        "previews/yuna",
    ]
    assert list(entries(bundle)) == ["amara", "will", "yuna"]
    assert {name: entry for name, entry in entries(bundle).items() if name != "yuna"} == entries(exported)
    assert bundle.manifest.encoder == exported.manifest.encoder


def test_a_retrained_identity_replaces_itself_only(
    folder: Path, exported: Bundle, checkpoint: Checkpoint
) -> None:
    bundle = export(retrained(checkpoint, "will"), folder, Request("small", ["will"]))
    assert entries(bundle)["amara"] == entries(exported)["amara"]
    new, old = bundle.identity("will"), exported.identity("will")
    assert new.decoder.path != old.decoder.path
    assert (folder / old.decoder.path).exists(), "a service that still runs can load it"


def test_another_encoder_is_refused(folder: Path, checkpoint: Checkpoint) -> None:
    """Its decoders speak of other latents; with the old encoder they would give noise."""
    before = contents(folder)
    torch.manual_seed(5)
    other = changed(checkpoint, encoder=Encoder(EncoderConfig()))
    with pytest.raises(ExportError, match="made with another encoder"):
        export(other, folder, Request("small", ["yuna"]))
    assert contents(folder) == before


def test_an_export_above_the_tolerance_leaves_the_old_bundle(folder: Path, checkpoint: Checkpoint) -> None:
    """A decoder that float16 storage harms: tiny weights, and large ones behind them to make up for it."""
    torch.manual_seed(5)
    fragile = Decoder(DECODER)
    with torch.no_grad():
        first, second = (fragile.blocks[n].get_submodule("convolution") for n in (0, 1))
        first.get_parameter("weight").mul_(1e-5)
        second.get_parameter("weight").mul_(1e5)
        fragile.to_rgb.weight.mul_(20)
    before = contents(folder)
    with pytest.raises(ParityError, match="decoder yuna"):
        export(
            changed(checkpoint, decoders={**checkpoint.decoders, "yuna": fragile}),
            folder,
            Request("small", ["yuna"]),
        )
    assert contents(folder) == before


# ---------------------------------------------------------------- metrics
def metrics(bundle: Bundle, **figures: Any) -> dict[str, Any]:
    row = {"top1": 0.9, "decoder_sha256": bundle.identity("will").decoder.sha256} | figures
    return {"judge": "a fake", "identities": {"will": row}}


def test_metrics_of_this_very_decoder_go_into_the_manifest(
    folder: Path, exported: Bundle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Measured on one export, told by the next one: the same checkpoint gives the same decoder."""
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics(exported, light=float("nan"))))
    bundle = export(checkpoint, folder, Request("small", ["will"], metrics=read_metrics(path)))
    told = bundle.identity("will").metrics
    assert (told["top1"], told["light"]) == (0.9, None)
    assert told["decoder_sha256"] == bundle.identity("will").decoder.sha256
    assert bundle.identity("will").decoder == exported.identity("will").decoder


def test_an_unchanged_decoder_keeps_what_is_known_of_it(
    folder: Path, exported: Bundle, checkpoint: Checkpoint
) -> None:
    """Else a bundle lost its metrics whenever somebody is enrolled from a copy of it."""
    measured = export(checkpoint, folder, Request("small", ["will"], metrics=metrics(exported)))
    later = changed(checkpoint, facts=checkpoint.facts | {"updates": 99}, previews={})
    records = {"will": RECORD | {"licence": "CC-BY-4.0"}}
    again = export(changed(later, records=records), folder, Request("small", ["will"]))
    kept = measured.identity("will").model_copy(update={"licence": "CC-BY-4.0"})
    assert again.identity("will") == kept


def test_metrics_of_another_decoder_are_refused(
    folder: Path, exported: Bundle, checkpoint: Checkpoint
) -> None:
    before = contents(folder)
    figures = metrics(exported, decoder_sha256="0" * 64)
    with pytest.raises(ExportError, match="the metrics of will were measured on another decoder"):
        export(checkpoint, folder, Request("small", ["will"], metrics=figures))
    assert contents(folder) == before


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"identities": []}'])
def test_a_file_without_metrics_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ExportError, match="holds no metrics"):
        read_metrics(tmp_path / "metrics.json")
    with pytest.raises(ExportError, match="holds no metrics"):
        read_metrics(tmp_path / "gone.json")


# ---------------------------------------------------------------- the command
@pytest.fixture(scope="module")
def saved(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with the checkpoint in it."""
    run = tmp_path_factory.mktemp("run")
    checkpoint.save(run / "checkpoint.pt")
    return run


def refusal(capsys: pytest.CaptureFixture[str], *options: str | Path) -> str:
    assert main([str(option) for option in options]) == 2
    line = capsys.readouterr().err
    assert line.startswith("export: ") and line.count("\n") == 1, line
    return line


def test_the_command_replaces_a_bundle_whatever_it_was(saved: Path, folder: Path) -> None:
    (folder / "manifest.json").write_text("damaged")
    assert main([str(saved), "--out", str(folder), "--only", "yuna", "--replace", "--name", "new"]) == 0
    bundle = Bundle.open(folder)
    assert (bundle.manifest.name, list(entries(bundle))) == ("new", ["yuna"])
    assert set(contents(folder)) == {"manifest.json", *(entry.path for entry in bundle.manifest.files)}


def test_a_bundle_in_the_working_directory_has_its_name(
    saved: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert main([str(saved / "checkpoint.pt"), "--out", ".", "--only", "will"]) == 0
    assert Bundle.open(folder).manifest.name == folder.name


def test_records_can_be_given_later(saved: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("amara", "will", "yuna"):
        (tmp_path / "records" / name).mkdir(parents=True)
        record = RECORD | {"licence": f"{name}'s own"}
        (tmp_path / "records" / name / "identity.json").write_text(json.dumps(record))
    options = ["--only", "will", "--records", str(tmp_path / "records")]
    assert main([str(saved), "--out", str(folder), *options]) == 0
    bundle = Bundle.open(folder)
    assert bundle.identity("will").licence == "will's own"
    assert bundle.identity("amara").licence == RECORD["licence"]


def test_no_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no checkpoint at" in refusal(capsys, tmp_path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_identity_is_one_line(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, saved, "--out", tmp_path / "out", "--only", "bob", "will", "universal")
    assert "has no bob, universal; it has amara, will, yuna" in line
    assert not (tmp_path / "out").exists()


def test_a_broken_bundle_is_not_added_to(
    saved: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decoder = next((folder / "decoders").iterdir())
    decoder.write_bytes(b"damaged")
    line = refusal(capsys, saved, "--out", folder, "--only", "yuna")
    assert "the bundle to add to is broken" in line and decoder.name in line and "--replace" in line


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"licence": "CC0-1.0"},
        RECORD | {"licence": None},
        RECORD | {"licence": ""},
        RECORD | {"consent": None},
        RECORD | {"consent": {"kind": "person", "given_by": "", "date": "2026-01-31", "purpose": "tests"}},
        RECORD | {"consent": {"kind": "person", "given_by": "Ann", "date": "soon", "purpose": "tests"}},
        RECORD | {"consent": {"kind": "found", "given_by": "Ann", "date": "2026-01-31", "purpose": "x"}},
    ],
    ids=["nothing", "no consent", "null", "empty", "null consent", "nobody", "no date", "no such kind"],
)
def test_nobody_is_exported_without_licence_and_consent(
    checkpoint: Checkpoint, tmp_path: Path, record: dict[str, Any]
) -> None:
    without = changed(checkpoint, records={**checkpoint.records, "will": record})
    with pytest.raises(ExportError) as caught:
        export(without, tmp_path / "out", Request("small"))
    line = str(caught.value)
    assert line.startswith("will has no valid licence and consent record. Put an identity.json beside")
    assert "\n" not in line
    assert not (tmp_path / "out").exists(), "nothing was written before it was asked for"


def test_the_command_takes_the_record_of_who_has_none_and_leaves_the_others(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = changed(checkpoint, records={"amara": dict(RECORD)})
    saved, folder = tmp_path / "run" / "checkpoint.pt", tmp_path / "out"
    without.save(saved)
    command = [str(saved), "--out", str(folder), "--only", "amara", "will"]
    assert "--synthetic" in refusal(capsys, *command)
    said = ["--consent-by", "Will Example", "--consent-date", "2026-01-30", "--consent-for", "a play"]
    assert main([*command, "--licence", "all rights reserved", *said]) == 0
    amara, will = Bundle.open(folder).manifest.identities
    assert amara.consent.model_dump() == RECORD["consent"]
    assert will.licence == "all rights reserved"
    assert will.consent.model_dump() == {
        "kind": "person", "given_by": "Will Example", "date": "2026-01-30", "purpose": "a play"
    }  # fmt: skip


def test_others_can_be_exported_while_one_has_no_consent(
    checkpoint: Checkpoint, folder: Path, exported: Bundle
) -> None:
    without = changed(checkpoint, records={"yuna": RECORD})
    bundle = export(without, folder, Request("small", ["yuna"]))
    assert entries(bundle).items() >= entries(exported).items()


def test_adding_keeps_the_name_that_the_bundle_had(
    checkpoint: Checkpoint, exported: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(exported.folder, folder)
    assert export(checkpoint, folder, Request(names=["yuna"])).manifest.name == "small"


def test_another_crop_template_is_refused(checkpoint: Checkpoint, exported: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    shutil.copytree(exported.folder, folder)
    moved = [[x, y + 0.01] for x, y in checkpoint.template]
    with pytest.raises(ExportError, match="another template"):
        export(changed(checkpoint, template=moved), folder, Request(names=["yuna"]))
    assert Bundle.open(folder).manifest == exported.manifest


def test_the_manifest_tells_whose_weights_training_began_with(checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = changed(checkpoint, facts=checkpoint.facts | {"encoder_weights": "mine.h5"})
    encoder = export(other, tmp_path / "out", Request(names=["will"], note="half a run")).manifest.encoder
    assert encoder.licence == "not known: weights from mine.h5"
    assert encoder.training["note"] == "half a run"
