"""Which graph runs: by the gate where nothing is said, by name where it is, and never in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceswap import BundleError, DeviceError, Precision, Swapper
from faceswap.bundle import Bundle, Gate
from faceswap.detection import LibFaceDetection
from faceswap.precisions import Graphs
from faceswap.sessions import SessionFactory
from faceswap.signatures import Signature, Tensor
from tests.faceswap.conftest import Edit
from tests.faceswap.fake_onnxruntime import CPU, CUDA, FakeOnnxRuntime, Value

GPU_WHEEL = (CUDA, CPU)
GOOD = {"samples": 8, "sources": "tests", "provider": CPU, "ssim": 0.99, "error": 1.0}


def variants_of(
    manifest: dict[str, Any], precision: str = "int8", decoders: bool = True, **gate: Any
) -> None:
    """Echo gets the negative's graph for a variant, so that everybody sees which one ran."""
    echo, negative = manifest["identities"][:2]
    judged = {**GOOD, **gate}
    encoder = manifest["encoder"]
    encoder["variants"] = {precision: {"graph": encoder["graph"], "gate": judged}}
    if decoders:
        echo["variants"] = {precision: {"graph": negative["decoder"], "gate": judged}}
        for entry in manifest["identities"][1:]:
            entry["variants"] = {precision: {"graph": entry["decoder"], "gate": judged}}


def face(bundle: Path, precision: str) -> int:
    """What becomes of a white crop by `echo`: 255 in fp32, 0 by its variant."""
    swapper = Swapper.open(bundle, "cpu", 1, precision)
    latents = swapper.encode(np.full((1, 64, 64, 3), 255, np.uint8))
    return int(swapper.decode(latents, "echo")[0, 0, 0, 0])


def test_a_bundle_without_variants_runs_in_fp32(bundle: Path) -> None:
    assert face(bundle, "auto") == face(bundle, "fp32") == 255
    swapper = Swapper.open(bundle, "cpu", 1)
    assert (swapper.precision, swapper.precision_of("echo")) == (Precision.FP32, Precision.FP32)


def test_auto_takes_what_passed(bundle: Path, edit_manifest: Callable[[Edit], None]) -> None:
    edit_manifest(variants_of)
    assert face(bundle, "auto") == face(bundle, "int8") == 0
    assert face(bundle, "fp32") == 255
    swapper = Swapper.open(bundle, "cpu", 1)
    assert (swapper.precision, swapper.precision_of("echo")) == (Precision.INT8, Precision.INT8)


@pytest.mark.parametrize(
    "gate",
    [
        {"ssim": 0.969},
        {"judge": "dlib", "top1": 0.97, "top1_fp32": 0.99},
        {"provider": CUDA},
    ],
    ids=["ssim", "top-1", "measured elsewhere"],
)
def test_auto_leaves_what_failed_and_a_name_takes_it(
    bundle: Path, edit_manifest: Callable[[Edit], None], gate: dict[str, Any]
) -> None:
    edit_manifest(lambda manifest: variants_of(manifest, **gate))
    assert face(bundle, "auto") == 255
    assert face(bundle, "int8") == 0
    assert Swapper.open(bundle, "cpu", 1).precision == Precision.FP32


@pytest.mark.parametrize(("top1", "passed"), [(0.98, True), (0.9799, False), (1.0, True), (None, True)])
def test_top1_may_fall_by_a_point(top1: float | None, passed: bool) -> None:
    gate = Gate.model_validate({**GOOD, "judge": "dlib", "top1": top1, "top1_fp32": 0.99})
    assert gate.passed == passed


def test_a_new_identity_without_variants_runs_beside_the_others(
    bundle: Path, edit_manifest: Callable[[Edit], None]
) -> None:
    edit_manifest(lambda manifest: variants_of(manifest, decoders=False))
    assert face(bundle, "auto") == 255
    swapper = Swapper.open(bundle, "cpu", 1)
    assert (swapper.precision, swapper.precision_of("echo")) == (Precision.INT8, Precision.FP32)
    with pytest.raises(BundleError, match=r"no int8 graph for decoders/echo-.*python -m export.quantize"):
        Swapper.open(bundle, "cpu", 1, "int8")


def test_a_precision_that_is_not_there_is_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no int8 graph for encoder-.*or choose precision=auto$"):
        Swapper.open(bundle, "cpu", 1, "int8")
    with pytest.raises(DeviceError, match=r"fp16 is not for CPUExecutionProvider; choose .* int8"):
        Swapper.open(bundle, "cpu", 1, "fp16")
    with pytest.raises(ValueError, match="int4"):
        Swapper.open(bundle, "cpu", 1, "int4")


def test_a_damaged_variant_is_refused(bundle: Path, edit_manifest: Callable[[Edit], None]) -> None:
    data = (bundle / "manifest.json").read_bytes()

    def change(manifest: dict[str, Any]) -> None:
        variants_of(manifest)
        graph = manifest["encoder"]["graph"]
        (bundle / "small.onnx").write_bytes((bundle / graph["path"]).read_bytes()[:-1] + b"!")
        manifest["encoder"]["variants"]["int8"]["graph"] = {**graph, "path": "small.onnx"}

    edit_manifest(change)
    with pytest.raises(BundleError, match=r"small.onnx of bundle .* is damaged"):
        Bundle.open(bundle)
    (bundle / "small.onnx").unlink()
    with pytest.raises(BundleError, match=r"small.onnx of bundle .* is missing"):
        Bundle.open(bundle)
    (bundle / "manifest.json").write_bytes(data)
    Bundle.open(bundle)


def test_an_unknown_precision_in_a_manifest_is_refused(
    bundle: Path, edit_manifest: Callable[[Edit], None]
) -> None:
    edit_manifest(lambda manifest: variants_of(manifest, "int4"))
    with pytest.raises(BundleError, match=r"encoder\.variants\.int4"):
        Bundle.open(bundle)


def on_gpu(**options: Any) -> SessionFactory:
    latents = [Value("latents", "tensor(float)", ["N", 48, 16, 16])]
    answer = np.zeros((2, 48, 16, 16), np.float32)
    runtime = FakeOnnxRuntime(GPU_WHEEL, outputs=latents, cpu_answer=answer, cuda_answer=answer, **options)
    return SessionFactory("auto", 1, runtime)


ENCODER = Signature(Tensor("uint8", (64, 64, 3)), Tensor("float32", (48, 16, 16)))


@pytest.mark.parametrize(
    ("gate", "taken"),
    [
        ({"provider": CUDA}, True),
        ({"provider": CPU, "emulates": CUDA}, True),
        ({"provider": CPU, "emulates": CUDA, "ssim": 0.96}, False),
        ({"provider": CPU}, False),
    ],
    ids=["measured there", "emulated", "emulated and failed", "measured elsewhere"],
)
def test_on_cuda_fp16_is_taken_where_it_was_measured_for_it(
    bundle: Path, edit_manifest: Callable[[Edit], None], gate: dict[str, Any], taken: bool
) -> None:
    edit_manifest(lambda m: variants_of(m, "fp16", **gate))
    opened = Bundle.open(bundle)
    entry = opened.manifest.encoder
    graphs = Graphs(opened, on_gpu(gpu=True))
    session = graphs.open(entry.graph, entry.variants, ENCODER)
    assert session.provider == CUDA
    assert graphs.precision(entry.variants) == ("fp16" if taken else "fp32")
    assert Graphs(opened, graphs.factory, Precision.FP16).precision(entry.variants) == "fp16"


def test_int8_is_refused_on_cuda_and_fp16_where_auto_fell_back_to_the_cpu(
    bundle: Path, edit_manifest: Callable[[Edit], None]
) -> None:
    edit_manifest(lambda manifest: variants_of(manifest, "fp16"))
    opened, entry = Bundle.open(bundle), Bundle.open(bundle).manifest.encoder
    with pytest.raises(DeviceError, match=r"int8 is not for CUDAExecutionProvider; choose .* fp16"):
        Graphs(opened, on_gpu(gpu=True), Precision.INT8).open(entry.graph, entry.variants, ENCODER)
    with pytest.raises(DeviceError, match="fp16 is not for CPUExecutionProvider"):
        Graphs(opened, on_gpu(gpu=False), Precision.FP16).open(entry.graph, entry.variants, ENCODER)


def test_the_variant_gets_the_weights_of_the_very_graph(
    bundle: Path, edit_manifest: Callable[[Edit], None]
) -> None:
    edit_manifest(lambda manifest: variants_of(manifest, "fp16", provider=CUDA))
    opened = Bundle.open(bundle)
    entry, factory = opened.manifest.encoder, on_gpu(gpu=True)
    Graphs(opened, factory).open(entry.graph, entry.variants, ENCODER)
    first, second = factory._runtime.options
    assert (first.files, second.files) == ({}, {entry.graph.path: opened.read(entry.graph)})


def test_gates_without_figures_are_refused(bundle: Path, edit_manifest: Callable[[Edit], None]) -> None:
    def change(manifest: dict[str, Any]) -> None:
        variants_of(manifest)
        del manifest["encoder"]["variants"]["int8"]["gate"]["ssim"]

    edit_manifest(change)
    with pytest.raises(BundleError, match=r"encoder\.variants\.int8\.gate\.ssim"):
        Swapper(Bundle.open(bundle), SessionFactory("cpu", 1), LibFaceDetection())
    assert json.loads((bundle / "manifest.json").read_text())["schema_version"] == 1
