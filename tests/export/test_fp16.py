"""fp16 variants: borrowed weights, results that fit into float16, and a gate without a GPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.borrow import borrowing
from export.calibration import peaks
from export.fp16 import LARGEST, ROOM, Halves, exponent, to_fp16
from export.quantize import Crops, quantize
from export.rewrite import scaled
from faceswap import DeviceError, Precision, Swapper
from faceswap.bundle import Bundle
from faceswap.faces import Pixels
from faceswap.sessions import CPU, CUDA, SessionFactory

FLOAT16 = onnx.TensorProto.FLOAT16
Array = np.ndarray


def run(graph: bytes, batch: Array, weights: tuple[str, bytes] | None = None) -> Array:
    return SessionFactory("cpu", 1).open(graph, "graph", None, weights).run(batch)


@pytest.fixture(scope="module")
def encoder(exported: Bundle) -> bytes:
    return exported.read(exported.manifest.encoder.graph)


@pytest.fixture(scope="module")
def model(encoder: bytes) -> onnx.ModelProto:
    return scaled(onnx.load_from_string(encoder))


@pytest.fixture(scope="module")
def exponents(model: onnx.ModelProto, faces: Pixels) -> dict[str, int]:
    halves = Halves(model)
    return halves.exponents(peaks(model, halves.tensors, faces, 1))


@pytest.fixture(scope="module")
def halved(exported: Bundle, faces: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = Path(shutil.copytree(exported.folder, tmp_path_factory.mktemp("halved") / "small"))
    return quantize(folder, Crops(faces[:5], faces[5:], "5 crops", "3 others"), [Precision.FP16])


def test_every_layer_is_in_float16_and_the_ends_are_not(
    model: onnx.ModelProto, exponents: dict[str, int]
) -> None:
    half = onnx.shape_inference.infer_shapes(to_fp16(model, exponents))
    types = {v.name: v.type.tensor_type.elem_type for v in half.graph.value_info}
    types |= {t.name: t.data_type for t in half.graph.initializer}
    layers = [node for node in half.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 13
    assert {types[name] for node in layers for name in (*node.input, *node.output)} == {FLOAT16}
    log, square = (next(n for n in half.graph.node if n.op_type == kind) for kind in ("Log", "Pow"))
    assert {types[log.output[0]], types[square.output[0]]} == {onnx.TensorProto.FLOAT}
    assert half.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_the_arithmetic_is_that_of_fp32_to_float16s_digits(
    encoder: bytes, model: onnx.ModelProto, exponents: dict[str, int], faces: Pixels
) -> None:
    true = run(encoder, faces)
    emulated = run(to_fp16(model, exponents, emulated=True).SerializeToString(), faces)
    on_cpu = run(to_fp16(model, exponents).SerializeToString(), faces)
    assert 0 < np.abs(emulated - true).max() < 0.01 * np.abs(true).max()
    assert np.abs(on_cpu - true).max() < 0.01 * np.abs(true).max()


def test_without_scales_the_emulation_overflows_and_with_them_it_does_not(
    model: onnx.ModelProto, faces: Pixels
) -> None:
    """Brighter weights in the first layer stand for photos unlike those at hand."""
    bright = onnx.ModelProto()
    bright.CopyFrom(model)
    for tensor in bright.graph.initializer:
        if "block1_conv1" in tensor.name and tensor.data_type == onnx.TensorProto.FLOAT:
            larger = onnx.numpy_helper.to_array(tensor) * np.float32(8)
            tensor.CopyFrom(onnx.numpy_helper.from_array(larger, tensor.name))
    halves = Halves(bright)
    found = peaks(bright, halves.tensors, faces, 1)
    assert max(found.values()) > LARGEST
    exponents = halves.exponents(found)
    none = dict.fromkeys(exponents, 0)
    true = run(bright.SerializeToString(), faces)
    broken, right = (
        run(to_fp16(bright, each, emulated=True).SerializeToString(), faces) for each in (none, exponents)
    )
    assert not np.isfinite(broken).all()
    assert np.abs(right - true).max() < 0.01 * np.abs(true).max()


@pytest.mark.parametrize(
    ("peak", "expected"), [(0.0, 0), (LARGEST / ROOM, 0), (LARGEST / ROOM + 1, 1), (110_000.0, 5)]
)
def test_exponents_leave_room(peak: float, expected: int) -> None:
    assert exponent(peak) == expected
    assert peak / 2**expected <= LARGEST / ROOM


def test_summands_share_a_scale(exported: Bundle, faces: Pixels, encoder: bytes) -> None:
    decoder = exported.read(exported.identity("will").decoder)
    model = scaled(onnx.load_from_string(decoder))
    halves = Halves(model)
    sums = [node for node in halves.wiring.model.graph.node if node.op_type == "Add"]
    residual = [node for node in sums if node.output[0] in halves.group]
    assert residual
    found = peaks(model, halves.tensors, run(encoder, faces), 1)
    found[residual[0].input[1]] = 100_000.0  # the second summand's layer alone is large
    exponents = halves.exponents(found)
    assert {exponents[name] for name in (*residual[0].input, *residual[0].output)} == {5}
    emulated = run(to_fp16(model, exponents, emulated=True).SerializeToString(), run(encoder, faces))
    assert np.abs(emulated.astype(int) - run(decoder, run(encoder, faces))).max() <= 2


def test_a_variant_borrows_its_weights(encoder: bytes, model: onnx.ModelProto, faces: Pixels) -> None:
    halves = Halves(model)
    exponents = halves.exponents(peaks(model, halves.tensors, faces, 1))
    small = borrowing(to_fp16(model, exponents), encoder, "encoder.onnx")
    assert len(small) < 0.01 * len(encoder)
    answer = run(small, faces, ("encoder.onnx", encoder))
    assert np.array_equal(answer, run(to_fp16(model, exponents).SerializeToString(), faces))


def test_the_gate_tells_where_it_was_measured_and_what_it_stands_for(halved: Bundle) -> None:
    manifest = halved.manifest
    for variants in (manifest.encoder.variants, *(entry.variants for entry in manifest.identities)):
        gate = variants["fp16"].gate
        assert (gate.provider, gate.emulates, gate.samples) == (CPU, CUDA, 3)
        assert gate.ssim >= 0.99
        assert gate.holds_on(CUDA)
        assert gate.passed


def test_on_a_cpu_fp16_is_neither_chosen_nor_to_be_had(halved: Bundle) -> None:
    assert Swapper.open(halved.folder, "cpu", 1).precision is Precision.FP32
    with pytest.raises(DeviceError, match="fp16 is not for CPUExecutionProvider"):
        Swapper.open(halved.folder, "cpu", 1, "fp16")


def test_the_emulation_rounds_where_onnxruntime_on_a_cpu_does_not() -> None:
    """Why there is one: the true float16 graph, run on a CPU, knows no overflow."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    value = helper.make_tensor_value_info
    constants = [
        numpy_helper.from_array(np.full((1, 1, 1, 1), number, np.float32), name)
        for name, number in (("large", 1000.0), ("small", 0.001))
    ]
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    nodes = [
        helper.make_node("Conv", ["x", "large", "zero"], ["between"]),
        helper.make_node("Conv", ["between", "small", "zero"], ["y"]),
    ]
    sides: list[str | int | None] = ["N", 1, 1, 1]
    graph = helper.make_graph(
        nodes,
        "two",
        [value("x", onnx.TensorProto.FLOAT, sides)],
        [value("y", onnx.TensorProto.FLOAT, sides)],
        [*constants, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    exponents = dict.fromkeys(("between", "y"), 0)
    hundred = np.full((1, 1, 1, 1), 100, np.float32)
    session = onnxruntime.InferenceSession(
        to_fp16(model, exponents).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert session.run(None, {"x": hundred})[0].item() == pytest.approx(100, rel=0.01)
    emulated = to_fp16(model, exponents, emulated=True).SerializeToString()
    assert np.isinf(run(emulated, hundred).item())


def test_by_default_both_precisions_are_made_and_neither_touches_the_other(
    halved: Bundle, faces: Pixels, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(halved.folder, tmp_path / "both"))
    both = quantize(folder, Crops(faces[:5], faces[5:], "5 crops", "3 others"))
    identities = [entry.variants for entry in both.manifest.identities]
    for variants in (both.manifest.encoder.variants, *identities):
        assert set(variants) == {"int8", "fp16"}
    before, after = halved.identity("will").variants["fp16"], both.identity("will").variants["fp16"]
    assert before == after
    assert sum((folder / file.path).exists() for file in both.manifest.files) == len(both.manifest.files)
