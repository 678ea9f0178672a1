"""Checkpoint to bundle and back: the same names, the same files, the same faces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from export.bundle import BundleWriter
from export.exporter import Request, export
from export.graphs import DecoderGraph, EncoderGraph
from faceswap.bundle import Bundle
from models.autoencoder import Encoder, EncoderConfig
from models.checkpoint import UNIVERSAL, Checkpoint
from models.dataset import centre, load_crops
from models.decoders import Decoder, DecoderConfig
from models.errors import CheckpointError
from models.from_bundle import CONFIG_KEY, checkpoint_of
from models.stored import weights_sha256
from models.vgg19 import load_imagenet

RECORD = {
    "licence": "CC0-1.0",
    "consent": {"kind": "synthetic", "given_by": "nobody", "date": "2026-01-31", "purpose": "tests"},
}


@pytest.fixture(scope="module")
def original(faces: torch.Tensor) -> Checkpoint:
    """will has a mask, amara none; both have a range of tones."""
    torch.manual_seed(3)
    encoder = Encoder(EncoderConfig(squeezed=48, strided=32, width=64))
    origin = load_imagenet(encoder.vgg)
    encoder.fit_scale(faces)
    configs = {name: DecoderConfig(channels=(24, 16, 12, 8)) for name in (UNIVERSAL, "will")}
    configs["amara"] = DecoderConfig(channels=(20, 16, 12, 8), mask=False)
    decoders = {name: Decoder(config) for name, config in configs.items()}
    for decoder in (decoders["will"], decoders["amara"]):
        decoder.fit_tones(encoder.meter(faces / 255))
    return Checkpoint(
        encoder=encoder,
        decoders=decoders,
        template=[[0.342, 0.40], [0.658, 0.40], [0.500, 0.57], [0.370, 0.745], [0.630, 0.745]],
        facts={"encoder_weights": origin, "crops": {"amara": 5, "will": 7}, "updates": 3},
        records={"amara": RECORD, "will": RECORD},
        previews={"amara": faces[0].byte(), "will": faces[1].byte()},
    )


@pytest.fixture(scope="module")
def bundle(original: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(original, tmp_path_factory.mktemp("bundle") / "first", Request("first"))


@pytest.fixture(scope="module")
def again(bundle: Bundle) -> Checkpoint:
    return checkpoint_of(bundle)


def test_the_networks_are_those_that_were_exported(original: Checkpoint, again: Checkpoint) -> None:
    assert again.encoder.config == original.encoder.config
    assert weights_sha256(again.encoder) == weights_sha256(original.encoder)
    assert again.decoders.keys() == original.decoders.keys()
    for name, decoder in original.decoders.items():
        assert again.decoders[name].config == decoder.config
        assert weights_sha256(again.decoders[name]) == weights_sha256(decoder)
        assert torch.equal(again.decoders[name].low, decoder.low)
        assert torch.equal(again.decoders[name].high, decoder.high)


def test_vgg19_comes_back_without_loss(original: Checkpoint, again: Checkpoint) -> None:
    for name, tensor in original.encoder.vgg.state_dict().items():
        assert torch.equal(again.encoder.vgg.state_dict()[name], tensor), name


def test_faces_differ_by_the_rounding_only(original: Checkpoint, again: Checkpoint, will: list[Path]) -> None:
    pictures = centre(load_crops(will[5::90])).permute(0, 2, 3, 1).contiguous()
    with torch.no_grad():
        for name in original.decoders:
            ours, theirs = (
                DecoderGraph(each.decoders[name])(EncoderGraph(each.encoder)(pictures)).int()
                for each in (original, again)
            )
            assert (ours - theirs).abs().max() <= 2
            assert (ours - theirs).abs().float().mean() < 0.1


def test_exported_again_it_is_the_same_bundle(again: Checkpoint, bundle: Bundle, tmp_path: Path) -> None:
    second = export(again, tmp_path / "second", Request("second")).manifest
    first = bundle.manifest
    assert second.encoder.graph == first.encoder.graph
    assert second.encoder.weights_sha256 == first.encoder.weights_sha256
    assert second.universal == first.universal
    assert [e.decoder for e in second.identities] == [e.decoder for e in first.identities]
    assert second.encoder.model_dump(exclude={"parity"}) == first.encoder.model_dump(exclude={"parity"})
    assert [e.training for e in second.identities] == [e.training for e in first.identities]
    assert [e.consent for e in second.identities] == [e.consent for e in first.identities]


def test_somebody_new_goes_into_the_bundle_that_it_came_from(
    again: Checkpoint, bundle: Bundle, tmp_path: Path, faces: torch.Tensor
) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "grown"))
    yuna = Decoder(again.decoders[UNIVERSAL].config)
    yuna.load_state_dict(again.decoders[UNIVERSAL].state_dict())
    grown = Checkpoint(
        encoder=again.encoder,
        decoders={**again.decoders, "yuna": yuna},
        template=again.template,
        facts=again.facts | {"crops": {**again.facts["crops"], "yuna": 2}},
        records=again.records | {"yuna": RECORD},
        previews=again.previews | {"yuna": faces[2].byte()},
    )
    manifest = export(grown, folder, Request()).manifest
    assert manifest.encoder == bundle.manifest.encoder
    assert manifest.universal == bundle.manifest.universal
    assert [entry.name for entry in manifest.identities] == ["amara", "will", "yuna"]
    assert manifest.identities[:2] == bundle.manifest.identities


def test_it_can_be_saved_and_loaded(again: Checkpoint, tmp_path: Path) -> None:
    again.save(tmp_path / "checkpoint.pt")
    loaded = Checkpoint.load(tmp_path)
    assert loaded.identities == ["amara", "will"]
    assert loaded.records == again.records
    assert loaded.facts["crops"] == {"amara": 5, "will": 7}


def test_previews_are_the_decoders_own_pictures(original: Checkpoint, again: Checkpoint) -> None:
    assert again.previews["will"].shape == (3, 64, 64)
    assert again.previews["will"].dtype == torch.uint8
    assert not torch.equal(again.previews["will"], original.previews["will"])


# ---------------------------------------------------------------- bundles that lack something
Change = Callable[[onnx.ModelProto], object]


def tampered(bundle: Bundle, folder: Path, change: Change) -> Bundle:
    """A copy whose decoder of will was changed, with hashes that fit."""
    shutil.copytree(bundle.folder, folder)
    model = onnx.load_from_string(bundle.read(bundle.identity("will").decoder))
    change(model)
    writer = BundleWriter(folder)
    entry = writer.add("decoders/will", ".onnx", model.SerializeToString())
    identities = [
        one.model_copy(update={"decoder": entry}) if one.name == "will" else one
        for one in bundle.manifest.identities
    ]
    return writer.commit(bundle.manifest.model_copy(update={"identities": identities}))


def reconfigured(**news: Any) -> Change:
    def change(model: onnx.ModelProto) -> None:
        (prop,) = (prop for prop in model.metadata_props if prop.key == CONFIG_KEY)
        prop.value = json.dumps(json.loads(prop.value) | news)

    return change


def forget(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def rename(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Identity"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (forget, "does not say how its network is built, as bundles of older versions do not; start from"),
        (reconfigured(novelty=1), "does not fit this version: TypeError"),
        (reconfigured(channels=[8, 8, 8, 8]), "does not fit this version: RuntimeError"),
        (rename, "does not fit this version: ValueError"),
    ],
    ids=["nothing told", "another version's", "other shapes", "another storage"],
)
def test_a_bundle_that_lacks_something_is_refused_in_one_line(
    bundle: Bundle, tmp_path: Path, change: Change, reason: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        checkpoint_of(tampered(bundle, tmp_path / "other", change))
    line = str(caught.value)
    assert reason in line
    assert "decoders/will-" in line and "\n" not in line


def test_a_bundle_of_an_older_version_is_refused(identity_bundle: Path) -> None:
    with pytest.raises(CheckpointError, match="older versions"):
        checkpoint_of(Bundle.open(identity_bundle))


def test_the_mask_and_its_absence_come_back(again: Checkpoint) -> None:
    latent = torch.from_numpy(np.random.default_rng(0).random((1, 131, 4, 4), np.float32))
    with torch.no_grad():
        assert [again.decoders[name](latent).shape[1] for name in ("will", "amara")] == [4, 3]
