"""int8 variants: the same network, borrowed weights, true 8-bit kernels, and a gate that is measured."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.borrow import borrowing
from export.calibration import best_range, ranges, sigmoid
from export.int8 import Plan, to_int8
from export.quantize import Crops, main, quantize, read_crops
from export.rewrite import rearranged
from export.sensitivity import sensitive
from faceswap import BundleError, Precision, Swapper
from faceswap.bundle import Bundle
from faceswap.faces import Pixels
from faceswap.sessions import SESSION_ENTRIES, SessionFactory
from models.from_bundle import checkpoint_of
from tests.export.folders import contents

PROVIDERS = ["CPUExecutionProvider"]


def run(graph: bytes, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=PROVIDERS)
    answer: np.ndarray = session.run(None, {session.get_inputs()[0].name: batch})[0]
    return answer


@pytest.fixture(scope="module")
def encoder(exported: Bundle) -> bytes:
    return exported.read(exported.manifest.encoder.graph)


@pytest.fixture(scope="module")
def decoder(exported: Bundle) -> bytes:
    return exported.read(exported.identity("will").decoder)


@pytest.fixture(scope="module")
def latents(encoder: bytes, faces: Pixels) -> np.ndarray:
    return run(encoder, faces)


@pytest.fixture(scope="module")
def crops(faces: Pixels) -> Crops:
    return Crops(faces[:5], faces[5:], "5 crops", "3 others")


@pytest.fixture(scope="module")
def quantized(exported: Bundle, crops: Crops, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("quantized") / "small"
    return quantize(Path(shutil.copytree(exported.folder, folder)), crops, [Precision.INT8])


def optimised(graph: bytes, path: Path, weights: tuple[str, bytes] | None = None) -> Counter[str]:
    """Kinds of nodes that onnxruntime makes of `graph`."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    for key, value in SESSION_ENTRIES.items():
        options.add_session_config_entry(key, value)
    if weights:
        options.add_external_initializers_from_files_in_memory([weights[0]], [weights[1]], [len(weights[1])])
    onnxruntime.InferenceSession(graph, options, providers=PROVIDERS)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_rearranged_graphs_give_the_same(
    encoder: bytes, decoder: bytes, faces: Pixels, latents: np.ndarray
) -> None:
    other = rearranged(onnx.load_from_string(encoder))
    assert np.allclose(run(other.SerializeToString(), faces), latents, atol=1e-4)
    grown = Counter(node.op_type for node in other.graph.node)
    assert grown["Identity"] == 1, "the scale is in a convolution's weights"
    noise = latents + np.random.default_rng(0).normal(0, 1, latents.shape).astype(np.float32)
    again = rearranged(onnx.load_from_string(decoder))
    kinds = Counter(node.op_type for node in again.graph.node)
    assert kinds["DepthToSpace"] == 1, "the others are rows of channels that change places"
    given, wanted = run(again.SerializeToString(), noise), run(decoder, noise)
    assert np.abs(given.astype(int) - wanted).max() <= 1


def test_every_layer_runs_in_8_bits(quantized: Bundle, tmp_path: Path) -> None:
    manifest = quantized.manifest
    for graph, variants, layers in [
        (manifest.encoder.graph, manifest.encoder.variants, 10),
        (manifest.identities[0].decoder, manifest.identities[0].variants, 9),
    ]:
        variant, weights = variants["int8"], (Path(graph.path).name, quantized.read(graph))
        kinds = optimised(quantized.read(variant.graph), tmp_path / "o.onnx", weights)
        assert kinds["QLinearConv"] == layers, kinds
        assert kinds["QGemm"] == len(variant.in_float) / 2
        model = onnx.load(tmp_path / "o.onnx")
        large = [t for t in model.graph.initializer if len(t.raw_data) > 50_000 and "narrow" not in t.name]
        floats = [t.name for t in large if t.data_type != onnx.TensorProto.INT8]
        assert floats in ([], ["network.bottleneck.widen.weight"]), "weights are folded to bytes"


def test_a_variant_is_small_and_opens_from_its_folder_too(quantized: Bundle, faces: Pixels) -> None:
    entry = quantized.manifest.encoder
    file = quantized.folder / entry.variants["int8"].graph.path
    assert file.stat().st_size < 0.01 * entry.graph.bytes
    session = onnxruntime.InferenceSession(str(file), providers=PROVIDERS)
    (answer,) = session.run(None, {"image": faces})
    assert answer.shape == (8, 131, 4, 4)
    model = onnx.load(file, load_external_data=False)
    places = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
    assert places == {entry.graph.path}


def test_the_gate_is_measured_on_other_crops_and_recorded(quantized: Bundle, crops: Crops) -> None:
    variants = [entry.variants["int8"] for entry in quantized.manifest.identities]
    for variant in (quantized.manifest.encoder.variants["int8"], *variants):
        assert (variant.gate.samples, variant.gate.sources) == (3, "3 others")
        assert variant.gate.provider == "CPUExecutionProvider"
        assert variant.calibrated_on == "5 crops"
    swapper, fp32 = (Swapper.open(quantized.folder, "cpu", 1, p) for p in ("int8", "fp32"))
    faces, true = (each.decode(each.encode(crops.gate), "will").astype(int) for each in (swapper, fp32))
    recorded = quantized.identity("will").variants["int8"].gate
    assert 0 < np.abs(faces - true).mean() == pytest.approx(recorded.error, abs=0.01)


def test_the_fp32_bundle_stays_as_it_was(quantized: Bundle, exported: Bundle) -> None:
    before, after = contents(exported.folder), contents(quantized.folder)
    assert {name: after[name] for name in before if name != "manifest.json"} == {
        name: data for name, data in before.items() if name != "manifest.json"
    }
    assert len(after) == len(before) + 3
    assert checkpoint_of(quantized).identities == ["amara", "will"]


def test_the_same_crops_give_the_same_files(quantized: Bundle, crops: Crops) -> None:
    before = contents(quantized.folder)
    quantize(quantized.folder, crops, [Precision.INT8])
    after = contents(quantized.folder)
    assert before.keys() == after.keys()
    assert {n for n in before if before[n] != after[n]} <= {"manifest.json"}


def test_weights_are_borrowed_and_nobody_elses_are_taken(encoder: bytes, faces: Pixels) -> None:
    model = onnx.load_from_string(encoder)
    small = borrowing(model, encoder, "lender.onnx")
    assert len(small) < 0.02 * len(encoder)
    factory = SessionFactory("cpu", 1)
    session = factory.open(small, "small.onnx", None, ("lender.onnx", encoder))
    assert np.array_equal(session.run(faces), run(encoder, faces))
    for weights in (None, ("other.onnx", encoder), ("lender.onnx", encoder[: len(encoder) // 2])):
        with pytest.raises(BundleError, match=r"^small.onnx is no graph that onnxruntime can run: "):
            factory.open(small, "small.onnx", None, weights)


def test_layers_left_in_float_are_float(encoder: bytes, faces: Pixels, tmp_path: Path) -> None:
    model = rearranged(onnx.load_from_string(encoder))
    plan = Plan(model)
    assert set(plan.unfit) == {"vgg.convolutions.block1_conv1", "bottleneck.widen"}
    limits = ranges(model, plan.tensors, faces, 1)
    all_bytes = optimised(to_int8(model, limits).SerializeToString(), tmp_path / "a.onnx")
    left = ["vgg.convolutions.block2_conv1", "bottleneck.stride"]
    some = optimised(to_int8(model, limits, left).SerializeToString(), tmp_path / "b.onnx")
    assert all_bytes["QLinearConv"] - some["QLinearConv"] == 2


def test_a_few_extreme_crops_do_not_coarsen_the_others() -> None:
    """A tenth of the crops has values eight times as large: their error counts a tenth, not two thirds."""
    random = np.random.default_rng(0)
    values = np.abs(random.normal(size=(20, 1250))).astype(np.float32)
    values[:2] *= 8
    _, high = best_range(values, (0.0, float(values.max())))
    rounded = np.clip(values, 0, high)
    lost = np.square(rounded - values).mean(axis=1) / np.square(values).mean(axis=1)
    assert high < 0.8 * values.max() and lost[2:].max() == 0


def test_what_only_a_sigmoid_sees_is_cut_where_the_sigmoid_is_flat() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 1250)).astype(np.float32) * 3
    logits[:, ::100] *= 4
    wide = best_range(logits, (0.0, float(logits.max())))
    narrow = best_range(logits, (0.0, float(logits.max())), sigmoid)
    assert narrow[1] < 0.7 * wide[1]


def test_the_last_layer_of_a_face_is_known_to_end_in_a_sigmoid(decoder: bytes, encoder: bytes) -> None:
    plan = Plan(rearranged(onnx.load_from_string(decoder)))
    (name,) = plan.squashed
    last = plan.wiring.only_user(name)
    assert last is not None and last.op_type == "DepthToSpace"
    assert not Plan(rearranged(onnx.load_from_string(encoder))).squashed


def test_sensitive_layers_are_those_that_win_most() -> None:
    harm = {"a": 0.001, "b": 0.02, "c": 0.012}
    asked: list[list[str]] = []

    def score(left: object) -> float:
        names = list(left)  # type: ignore[call-overload]
        asked.append(names)
        return 1 - sum(loss for name, loss in harm.items() if name not in names)

    assert sensitive(list(harm), score, 0.98) == {"b": 0.02}
    assert sensitive(list(harm), score, 0.99) == {"b": 0.02, "c": 0.012}
    assert sensitive(list(harm), score, 0.9) == {}
    assert asked[-1] == [], "where bytes are good enough one look is enough"


def test_crops_of_the_gate_are_never_those_of_the_calibration(examples: Path) -> None:
    folder = examples / "people" / "will"
    crops = read_crops([folder], count=40)
    assert len(crops.calibration) == len(crops.gate) == 40
    known = {crop.tobytes() for crop in crops.calibration}
    assert not known & {crop.tobytes() for crop in crops.gate}
    assert crops.calibrated_on == "40 crops of will"


def test_the_command_refuses_in_one_line(
    tmp_path: Path, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = str(examples / "people" / "will")
    assert main([str(tmp_path / "none"), "--crops", crops, "--count", "4", "--no-judge"]) == 2
    assert capsys.readouterr().err.startswith("export.quantize: there is no bundle in ")
    assert main([str(tmp_path), "--crops", str(tmp_path / "nothing")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_precisions_are_named_as_the_manifest_names_them() -> None:
    assert Precision("int8").value == "int8"
