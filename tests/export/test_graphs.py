"""The graphs: uint8 NHWC in and out, any batch, the same bytes each time, nothing of the machine inside."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from export.graphs import DecoderGraph, EncoderGraph
from export.parity import FACE_TOLERANCE, LATENT_TOLERANCE, seeded_pictures
from export.to_onnx import OPSET, SMALL, to_onnx
from faceswap.bundle import Bundle
from faceswap.faces import Pixels
from models.checkpoint import Checkpoint
from models.errors import TrainingError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def encoder(exported: Bundle) -> bytes:
    return exported.read(exported.manifest.encoder.graph)


@pytest.fixture(scope="module")
def decoder(exported: Bundle) -> bytes:
    return exported.read(exported.identity("will").decoder)


@pytest.fixture(scope="module", params=["encoder", "decoder"])
def graph(request: pytest.FixtureRequest) -> bytes:
    data: bytes = request.getfixturevalue(request.param)
    return data


def session(graph: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def signature(graph: bytes) -> list[tuple[str, str, list[object]]]:
    opened = session(graph)
    return [(v.name, v.type, v.shape) for v in (*opened.get_inputs(), *opened.get_outputs())]


def run(graph: bytes, batch: np.ndarray) -> np.ndarray:
    opened = session(graph)
    answer: np.ndarray = opened.run(None, {opened.get_inputs()[0].name: batch})[0]
    return answer


def test_an_encoder_takes_pictures_and_gives_latents(encoder: bytes) -> None:
    image, latent = signature(encoder)
    assert image == ("image", "tensor(uint8)", [image[2][0], 64, 64, 3])
    assert latent == ("latent", "tensor(float)", [latent[2][0], 128, 4, 4])
    assert isinstance(image[2][0], str) and isinstance(latent[2][0], str), "the batch is free"


def test_a_decoder_takes_one_latent_and_nothing_else(decoder: bytes) -> None:
    """One input: no connection from the encoder around the bottleneck."""
    latent, face = signature(decoder)
    assert latent == ("latent", "tensor(float)", [latent[2][0], 128, 4, 4])
    assert face == ("face", "tensor(uint8)", [face[2][0], 64, 64, 3])
    assert isinstance(face[2][0], str), "the batch is free"


@pytest.mark.parametrize("count", [1, 3, 8])
def test_any_batch_gives_what_torch_gives(
    encoder: bytes, decoder: bytes, checkpoint: Checkpoint, faces: Pixels, count: int
) -> None:
    """On real faces; the export itself measured on seeded pictures."""
    batch = faces[:count]
    with torch.no_grad():
        latents = EncoderGraph(checkpoint.encoder)(torch.from_numpy(batch))
        expected = DecoderGraph(checkpoint.decoders["will"])(latents).numpy()
    ours = run(encoder, batch)
    assert ours.shape == (count, 128, 4, 4)
    assert np.abs(ours - latents.numpy()).max() <= LATENT_TOLERANCE * latents.abs().mean().item()
    answer = run(decoder, ours)
    assert answer.dtype == np.uint8 and answer.shape == (count, 64, 64, 3)
    assert np.abs(answer.astype(int) - expected).max() <= FACE_TOLERANCE


def test_a_picture_is_answered_the_same_in_any_batch(encoder: bytes, decoder: bytes, faces: Pixels) -> None:
    together = run(decoder, run(encoder, faces))
    for number in (0, 5):
        alone = run(decoder, run(encoder, faces[number : number + 1]))[0]
        assert np.abs(alone.astype(int) - together[number]).max() <= 1


def test_rgb_is_not_taken_for_bgr(encoder: bytes, checkpoint: Checkpoint, faces: Pixels) -> None:
    with torch.no_grad():
        expected = checkpoint.encoder(torch.from_numpy(faces[:2]).permute(0, 3, 1, 2).float()).numpy()
    right = np.abs(run(encoder, faces[:2]) - expected).max()
    wrong = np.abs(run(encoder, np.ascontiguousarray(faces[:2, ..., ::-1])) - expected).max()
    assert right < 0.05 * wrong


def test_a_face_reaches_black_and_white() -> None:
    """Rounded and kept within 0 to 255, and not wrapped around."""

    class Ends(nn.Module):
        def forward(self, latent: Tensor) -> Tensor:
            return latent[:, :3] * 1e4

    latent = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    ends = DecoderGraph(Ends())  # type: ignore[arg-type]
    assert ends(latent)[0, 0, 0].tolist() == [0, 128, 255]


def test_the_same_network_gives_the_same_bytes(decoder: bytes, checkpoint: Checkpoint) -> None:
    """Else metrics that name a decoder's sha256 would not fit an export of the same checkpoint."""
    example = torch.from_numpy(np.random.default_rng(1).random((5, 128, 4, 4), np.float32))
    again = to_onnx(DecoderGraph(checkpoint.decoders["will"]), example, "latent", "face")
    assert again == decoder


def test_nothing_of_the_machine_is_inside(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    things = [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]
    things += model.graph.initializer
    assert [t.doc_string for t in (*things, model, model.graph) if t.doc_string] == []
    assert [t for t in (*things, model, model.graph) if len(t.metadata_props)] == []
    assert (model.producer_name, model.producer_version) == ("faceswapd", "")
    for word in (str(ROOT), sys.prefix, str(Path.home()), "site-packages", ".py", "torch"):
        assert word.encode() not in graph


def test_everything_is_in_the_one_file(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]


def test_large_weights_are_stored_as_float16_with_a_cast(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    casts = {node.input[0]: node for node in model.graph.node if node.op_type == "Cast"}
    halves = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16]
    assert halves
    for tensor in halves:
        (attribute,) = casts[tensor.name].attribute
        assert attribute.i == TensorProto.FLOAT, "the arithmetic stays float32"
    singles = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert all(numpy_helper.to_array(tensor).size < SMALL for tensor in singles)


def test_the_file_is_little_more_than_two_bytes_a_weight(encoder: bytes, checkpoint: Checkpoint) -> None:
    weights = sum(parameter.numel() for parameter in checkpoint.encoder.parameters())
    assert 2 * weights < len(encoder) < 2.1 * weights


def test_weights_that_float16_cannot_store_are_refused() -> None:
    module = nn.Linear(64, 64)
    with torch.no_grad():
        module.weight[3, 3] = 1e6
    with pytest.raises(TrainingError, match="float16"):
        to_onnx(module, torch.zeros(2, 64), "x", "y")


def test_seeded_pictures_give_every_layer_work() -> None:
    pictures = seeded_pictures(16)
    assert pictures.dtype == np.uint8 and pictures.shape == (16, 64, 64, 3)
    assert pictures.min() == 0 and pictures.max() == 255
    assert 100 < pictures.mean() < 155
    assert np.array_equal(pictures, seeded_pictures(16))
    assert not np.array_equal(pictures, seeded_pictures(16, seed=1))
