"""SessionFactory: devices told apart truthfully, thread counts, signatures, no external data."""

from __future__ import annotations

import logging
import os
import platform
from pathlib import Path

import numpy as np
import pytest

from faceswap import BundleError, Device, DeviceError
from faceswap.bundle import Bundle
from faceswap.sessions import SessionFactory, adds_bytes_in_16_bits, available_cores
from faceswap.signatures import Signature, Tensor
from tests.faceswap.fake_onnxruntime import CPU, CUDA, GIVES, TAKES, Fail, FakeOnnxRuntime, Value

GPU_WHEEL = ("TensorrtExecutionProvider", CUDA, CPU)
SIGNATURE = Signature(Tensor("uint8", (64, 64, 3)), Tensor("float32", (2, 4, 4)))


def provider(device: str, runtime: FakeOnnxRuntime) -> str:
    return SessionFactory(device, 1, runtime).open(b"graph", "encoder.onnx", SIGNATURE).provider


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_the_cpu_wheel_runs_on_the_cpu(device: str) -> None:
    assert provider(device, FakeOnnxRuntime()) == CPU


def test_cpu_stays_cpu_beside_a_gpu() -> None:
    runtime = FakeOnnxRuntime(GPU_WHEEL, gpu=True)
    assert provider("cpu", runtime) == CPU
    assert runtime.preloads == 0


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_gpu_is_used(device: str) -> None:
    runtime = FakeOnnxRuntime(GPU_WHEEL, gpu=True)
    factory = SessionFactory(device, 1, runtime)
    before = factory.provider
    assert [factory.open(b"graph", "any", SIGNATURE).provider for _ in range(3)] == [CUDA] * 3
    assert (before, factory.provider) == (None, CUDA)
    assert runtime.preloads == 1
    assert all(o.entries["session.disable_cpu_ep_fallback"] == "1" for o in runtime.options)


def test_cuda_refuses_a_wheel_without_cuda() -> None:
    with pytest.raises(DeviceError, match="wheel has no CUDA"):
        provider("cuda", FakeOnnxRuntime())


def test_cuda_refuses_a_machine_without_a_gpu_though_the_wheel_lists_it() -> None:
    with pytest.raises(DeviceError, match=r"put encoder\.onnx on CPUExecutionProvider"):
        provider("cuda", FakeOnnxRuntime(GPU_WHEEL))


def test_cuda_refuses_a_gpu_that_fails_at_the_first_run() -> None:
    runtime = FakeOnnxRuntime(GPU_WHEEL, gpu=True, cuda_answer=Fail("no kernel image\nstack"))
    with pytest.raises(DeviceError, match=r"^encoder.onnx does not run on CUDA: no kernel image$"):
        provider("cuda", runtime)


@pytest.mark.parametrize(
    "runtime",
    [
        FakeOnnxRuntime(GPU_WHEEL),
        FakeOnnxRuntime(GPU_WHEEL, gpu=True, cuda_answer=Fail("no kernel image")),
    ],
    ids=["no gpu", "gpu fails"],
)
def test_auto_falls_back_once_and_visibly(runtime: FakeOnnxRuntime, caplog: pytest.LogCaptureFixture) -> None:
    factory = SessionFactory("auto", 1, runtime)
    with caplog.at_level(logging.WARNING):
        assert [factory.open(b"graph", "any", SIGNATURE).provider for _ in range(3)] == [CPU] * 3
    assert len(caplog.records) == 1
    assert "auto runs on the CPU" in caplog.text
    assert factory.provider == CPU


def test_auto_with_the_cpu_wheel_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        provider("auto", FakeOnnxRuntime())
    assert [(r.levelno, "auto runs on the CPU" in r.message) for r in caplog.records] == [
        (logging.INFO, True)
    ]


def test_a_later_graph_never_changes_the_device() -> None:
    runtime = FakeOnnxRuntime(GPU_WHEEL, gpu=True)
    factory = SessionFactory("auto", 1, runtime)
    factory.open(b"graph", "encoder.onnx", SIGNATURE)
    runtime.gpu = False  # out of memory, say
    with pytest.raises(DeviceError):
        factory.open(b"graph", "decoder.onnx", SIGNATURE)


def test_shape_arithmetic_may_stay_on_the_cpu_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert provider("cuda", FakeOnnxRuntime(GPU_WHEEL, gpu=True, cpu_nodes=True)) == CUDA
    assert "parts of encoder.onnx run on the CPU beside CUDA" in caplog.text


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match="tpu"):
        SessionFactory("tpu")


def test_every_session_has_its_threads_and_may_not_fall_back() -> None:
    runtime = FakeOnnxRuntime()
    SessionFactory(Device.CPU, 3, runtime).open(b"graph", "any")
    (options,) = runtime.options
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.entries["session.intra_op.allow_spinning"] == "0"
    assert not runtime.sessions[0].fallback


def test_graphs_that_stay_have_a_wide_session_for_lone_runs() -> None:
    runtime = FakeOnnxRuntime()
    factory = SessionFactory(Device.CPU, 1, runtime, lone_threads=3)
    factory.open(b"encoder", "any", SIGNATURE)
    factory.without_arena().open(b"decoder", "any", SIGNATURE)
    assert [options.intra_op_num_threads for options in runtime.options] == [1, 3, 1]


@pytest.mark.parametrize(("threads", "lone"), [(3, None), (3, 2), (3, 3)])
def test_one_session_is_enough_where_every_run_is_wide(threads: int, lone: int | None) -> None:
    runtime = FakeOnnxRuntime()
    SessionFactory(Device.CPU, threads, runtime, lone_threads=lone).open(b"graph", "any")
    assert [options.intra_op_num_threads for options in runtime.options] == [threads]


def test_on_cuda_there_are_no_wide_sessions() -> None:
    runtime = FakeOnnxRuntime(GPU_WHEEL, gpu=True)
    SessionFactory("cuda", 1, runtime, lone_threads=4).open(b"graph", "any", SIGNATURE)
    assert len(runtime.sessions) == 1


def test_a_broken_graph_is_one_line() -> None:
    with pytest.raises(BundleError) as caught:
        provider("cpu", FakeOnnxRuntime(broken=True))
    line = "encoder.onnx is no graph that onnxruntime can run: ModelProto does not have a graph."
    assert str(caught.value) == line


def test_the_real_onnxruntime_refuses_a_broken_graph_too() -> None:
    with pytest.raises(BundleError, match=r"^x.onnx is no graph that onnxruntime can run: [^\n]*$"):
        SessionFactory("cpu", 1).open(b"no protobuf", "x.onnx")


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([TAKES, TAKES], [GIVES]),
        ([TAKES], [GIVES, GIVES]),
        ([Value("x", "tensor(float)", ["N", 64, 64, 3])], [GIVES]),
        ([Value("x", "tensor(uint8)", ["N", 3, 64, 64])], [GIVES]),
        ([Value("x", "tensor(uint8)", [1, 64, 64, 3])], [GIVES]),
        ([TAKES], [Value("y", "tensor(float)", ["N", 3, 4, 4])]),
        ([TAKES], [Value("y", "tensor(float)", ["N", 32])]),
        ([TAKES], [Value("y", "tensor(float16)", ["N", 2, 4, 4])]),
    ],
    ids=["inputs", "outputs", "float in", "NCHW in", "fixed batch", "channels", "rank", "float16 out"],
)
def test_a_graph_with_another_signature_is_refused(inputs: list[Value], outputs: list[Value]) -> None:
    with pytest.raises(BundleError, match=r"^encoder.onnx (is|has) [^\n]*$"):
        provider("cpu", FakeOnnxRuntime(inputs=inputs, outputs=outputs))


def test_a_graph_that_leaves_its_shape_open_is_tried() -> None:
    outputs = [Value("y", "tensor(float)", ["N", "c", "h", "w"])]
    assert provider("cpu", FakeOnnxRuntime(outputs=outputs)) == CPU
    wrong = np.zeros((2, 9, 9, 9), np.float32)
    with pytest.raises(BundleError, match=r"gives float32 \(9, 9, 9\) an item"):
        provider("cpu", FakeOnnxRuntime(outputs=outputs, cpu_answer=wrong))


FACES = Signature(
    Tensor("float32", (2, 4, 4)), Tensor("uint8", (64, 64, 3)), or_gives=(Tensor("uint8", (64, 64, 4)),)
)


def decoder_of(*shape: int | str, planes: int) -> FakeOnnxRuntime:
    takes = Value("latents", "tensor(float)", ["N", 2, 4, 4])
    answer = np.zeros((2, 64, 64, planes), np.uint8)
    outputs = [Value("faces", "tensor(uint8)", ["N", *shape])]
    return FakeOnnxRuntime(inputs=[takes], outputs=outputs, cpu_answer=answer)


@pytest.mark.parametrize("planes", [3, 4])
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "left open"])
def test_a_graph_may_give_one_of_several_things(planes: int, declared: bool) -> None:
    runtime = decoder_of(64, 64, planes if declared else "planes", planes=planes)
    assert SessionFactory("cpu", 1, runtime).open(b"graph", "will.onnx", FACES).provider == CPU


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "left open"])
def test_a_graph_that_gives_none_of_them_is_told_all(declared: bool) -> None:
    runtime = decoder_of(64, 64, 5 if declared else "planes", planes=5)
    with pytest.raises(
        BundleError,
        match=r"needs float32 \(N, 2, 4, 4\) -> uint8 \(N, 64, 64, 3\) or uint8 \(N, 64, 64, 4\)$",
    ):
        SessionFactory("cpu", 1, runtime).open(b"graph", "will.onnx", FACES)


def test_the_message_names_both_signatures(identity_bundle: Path) -> None:
    bundle = Bundle.open(identity_bundle)
    graph = bundle.read(bundle.manifest.encoder.graph)
    with pytest.raises(BundleError) as caught:
        SessionFactory("cpu", 1).open(graph, "encoder.onnx", SIGNATURE)
    assert str(caught.value) == (
        "encoder.onnx is uint8 (N, 64, 64, 3) -> float32 (N, 48, 16, 16) where the manifest needs "
        "uint8 (N, 64, 64, 3) -> float32 (N, 2, 4, 4)"
    )


def test_external_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given as bytes, onnxruntime looks for external data in the working directory.
    onnx = pytest.importorskip("onnx")
    weights = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "external",
        [value("x", onnx.TensorProto.FLOAT, ["N", 3])],
        [value("y", onnx.TensorProto.FLOAT, ["N", 3])],
        [weights],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    path = tmp_path / "external.onnx"
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    assert Path("weights.bin").exists()
    with pytest.raises(BundleError, match="can run"):
        SessionFactory("cpu", 1).open(path.read_bytes(), "external.onnx")


@pytest.mark.parametrize(
    ("flags", "overflows"),
    [("fpu avx2 avx512_vnni", False), ("avx2 avx_vnni", False), ("fpu avx2 avx512f", True), (None, True)],
)
def test_only_cpus_without_vnni_are_told_to_take_care(
    tmp_path: Path, flags: str | None, overflows: bool
) -> None:
    if flags is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t: vnni\n")
    x86 = platform.machine() in ("x86_64", "AMD64")
    assert adds_bytes_in_16_bits(tmp_path) == (overflows and x86)
    runtime = FakeOnnxRuntime()
    SessionFactory(Device.CPU, 1, runtime).open(b"graph", "any")
    careful = runtime.options[0].entries.get("session.x64quantprecision") == "1"
    assert careful == adds_bytes_in_16_bits()


class TestCores:
    """Affinity and cgroup quotas."""

    def test_no_quota_leaves_the_affinity_mask(self, tmp_path: Path) -> None:
        assert available_cores(tmp_path) == len(os.sched_getaffinity(0))

    @pytest.mark.parametrize(("text", "cores"), [("50000 100000", 1), ("max 100000", None), ("", None)])
    def test_cgroup_v2(self, tmp_path: Path, text: str, cores: int | None) -> None:
        self.put(tmp_path, "sys/fs/cgroup/cpu.max", text)
        assert available_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))

    def test_cgroup_v2_of_a_group_above_this_process(self, tmp_path: Path) -> None:
        self.put(tmp_path, "proc/self/cgroup", "0::/system.slice/faceswapd.service\n")
        self.put(tmp_path, "sys/fs/cgroup/system.slice/faceswapd.service/cpu.max", "max 100000")
        self.put(tmp_path, "sys/fs/cgroup/system.slice/cpu.max", "10000 100000")
        assert available_cores(tmp_path) == 1

    @pytest.mark.parametrize(("quota", "cores"), [("100000", 1), ("-1", None)])
    def test_cgroup_v1(self, tmp_path: Path, quota: str, cores: int | None) -> None:
        self.put(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota)
        self.put(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
        assert available_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))

    def put(self, root: Path, path: str, text: str) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
