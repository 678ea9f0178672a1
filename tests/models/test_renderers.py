"""Bundle, checkpoint and run are measured by the same calls; what each costs is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from faceswap.alignment import Template
from models.checkpoint import Checkpoint
from models.cost import cost_of, graph_macs
from models.errors import CheckpointError
from models.metrics import Faces
from models.previews import swap_tensor
from models.renderers import BundleRenderer, CheckpointRenderer, open_renderer, to_faces, to_tensor


@pytest.fixture(scope="module")
def pictures(faces: Tensor) -> Faces:
    return to_faces(faces[:3])


def test_a_bundle_by_its_folder(identity_bundle: Path, pictures: Faces) -> None:
    renderer = open_renderer(identity_bundle)
    assert isinstance(renderer, BundleRenderer)
    assert renderer.template == Template()
    assert np.array_equal(renderer.swap(pictures, "echo"), pictures)
    assert np.array_equal(renderer.swap(pictures, "negative"), 255 - pictures)
    assert set(renderer.fingerprint("echo")) == {"decoder_sha256"}


def test_a_run_or_its_checkpoint_without_export(run: Path, pictures: Faces) -> None:
    checkpoint = Checkpoint.load(run)
    expected = swap_tensor(checkpoint.encoder, checkpoint.decoders["will"], to_tensor(pictures))
    for path in (run, run / "checkpoint.pt"):
        renderer = open_renderer(path)
        assert isinstance(renderer, CheckpointRenderer)
        assert renderer.identities == ("amara", "will")
        assert renderer.template == Template()
        assert np.array_equal(renderer.swap(pictures, "will"), to_faces(expected))
    assert set(renderer.fingerprint("will")) == {"weights_sha256"}, "export refuses figures of these"


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no bundle folder"):
        open_renderer(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        open_renderer(tmp_path)


def test_pictures_and_tensors() -> None:
    faces = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert np.array_equal(to_faces(to_tensor(faces)), faces)
    assert to_faces(torch.tensor([[[[-4.0, 300.0, 1.6]]]]).expand(1, 3, 1, 3)).tolist() == [
        [[[0] * 3, [255] * 3, [2] * 3]]
    ]


def test_the_cost_of_a_checkpoint_is_that_of_its_layers(run: Path) -> None:
    cost = cost_of(open_renderer(run))
    assert 0.7 < cost["encoder_gmac"] < 1.1
    assert 0.1 < cost["decoder_gmac"] <= 0.35
    assert cost["swap_gmac"] == pytest.approx(cost["encoder_gmac"] + cost["decoder_gmac"], abs=1e-3)
    assert "bytes" not in cost


def test_the_cost_of_a_bundle_has_its_bytes(identity_bundle: Path) -> None:
    size = cost_of(open_renderer(identity_bundle))["bytes"]
    assert 0 < size <= sum(file.stat().st_size for file in identity_bundle.rglob("*") if file.is_file())


def test_products_of_a_graph_are_counted(tmp_path: Path) -> None:
    """A strided 3x3 convolution of 4 to 6 channels, then a product with 8 outputs."""
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, (6, 4, 3, 3), np.zeros(216)),
        helper.make_tensor("m", TensorProto.FLOAT, (96, 8), np.zeros(768)),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["y"], ["z"]),
        helper.make_node("MatMul", ["z", "m"], ["out"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 8])
    graph = helper.make_graph(nodes, "tiny", [x], [out], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "tiny.onnx")
    assert graph_macs(tmp_path / "tiny.onnx") == 6 * 16 * 4 * 9 + 96 * 8
