"""/metrics: what is counted, told of one process and of several, in the words of docs/operate.md."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from faceswap.errors import BundleError
from service.exposition import prepare
from service.gauges import memory_limit
from service.metrics import NAMES, OTHERS, Metrics
from service.nvml import Driver
from service.telemetry import Clock
from tests.service.fakes import FakeSwapper, Gate, make_app, parts_of, photo, post, serving, until
from tests.service.tensors import as_json, crops
from tests.service.test_process import slow_service

pytestmark = pytest.mark.anyio

Samples = dict[str, float]


def samples(text: str) -> Samples:
    """`name{label="value"}` -> value; labels by name, without histograms' buckets."""
    found = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(each.labels.items()))
            found[f"{each.name}{{{labels}}}" if labels else each.name] = each.value
    return found


async def scraped(client: object) -> Samples:
    answer = await client.get("/metrics")  # type: ignore[attr-defined]
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return samples(answer.text)


async def test_faces_are_counted_by_identity_and_outcome() -> None:
    async with serving(make_app()) as client:
        await post(client)
        await post(client, photo(grey=0))
        await post(client, target="echo,negative")
        await post(client, photo(grey=0), target="echo,negative")
        files = [("image", ("p.png", photo(grey=grey), "image/png")) for grey in (0, 99)]
        await client.post("/swap/batch?target=negative", files=files)
        await post(client, target="nobody")
        told = await scraped(client)
    faces = {name: value for name, value in told.items() if name.startswith("swap_requests_total")}
    assert faces == {
        'swap_requests_total{identity="echo",outcome="swapped"}': 2,
        'swap_requests_total{identity="negative",outcome="swapped"}': 2,
        'swap_requests_total{identity="echo",outcome="no-face"}': 2,
        'swap_requests_total{identity="negative",outcome="no-face"}': 2,
    }
    assert told['swap_step_seconds_count{step="write"}'] == 4
    assert told["swap_queue_wait_seconds_count"] == 4


async def test_crops_of_v2_are_counted_and_timed_one_by_one() -> None:
    app = make_app(max_batch=4)
    async with serving(app) as client:
        for name, status in (("negative", 200), ("echo", 200), ("echo", 200)):
            answer = await client.post(f"/v2/models/{name}/infer", content=as_json(crops(3)))
            assert answer.status_code == status
        await client.post("/v2/models/nobody/infer", content=as_json(crops(3)))
        told = await scraped(client)
    faces = {name: value for name, value in told.items() if name.startswith("swap_requests_total")}
    assert faces == {
        'swap_requests_total{identity="echo",outcome="swapped"}': 6,
        'swap_requests_total{identity="negative",outcome="swapped"}': 3,
    }
    assert told["swap_queue_wait_seconds_count"] == 9


async def test_requests_are_timed_by_route_and_never_by_address() -> None:
    async with serving(make_app()) as client:
        await post(client)
        for path in ("/identities/echo", "/identities/nobody", "/secret/words", "/static/page.css"):
            await client.get(path)
        await client.request("SECRET", "/swap")
        text = (await client.get("/metrics")).text
    told = samples(text)
    name = "http_server_request_duration_seconds_count"
    assert told[f'{name}{{method="POST",route="/swap",status="200"}}'] == 1
    for status in (200, 404):
        assert told[f'{name}{{method="GET",route="/identities/{{name}}",status="{status}"}}'] == 1
    assert told[f'{name}{{method="GET",route="(none)",status="404"}}'] == 1
    assert told[f'{name}{{method="GET",route="/static",status="200"}}'] == 1
    assert "secret" not in text.lower() and "nobody" not in text


async def test_runs_are_noted_once_for_a_batch() -> None:
    gate, swapper = Gate(), FakeSwapper()
    swapper.on_encode = gate
    app = make_app(swapper)
    async with serving(app) as client:
        first = asyncio.create_task(post(client))
        await gate.reached()
        rest = [asyncio.create_task(post(client)) for _ in range(3)]
        await until(lambda: parts_of(app).batcher.depth == 3)
        assert (await scraped(client))["swap_queue_depth"] == 3
        gate.open()
        await asyncio.gather(first, *rest)
        told = await scraped(client)
    assert (told["swap_batch_size_count"], told["swap_batch_size_sum"]) == (2, 4)
    assert told['swap_infer_seconds_count{stage="encode"}'] == 2
    assert told['swap_infer_seconds_count{stage="decode"}'] == 2
    assert told["swap_queue_depth"] == 0


async def test_refusals_are_counted_by_problem_and_health_is_none() -> None:
    gate, swapper = Gate(), FakeSwapper()
    swapper.on_encode = gate
    app = make_app(swapper, queue_images=1, max_body_bytes=5_000)
    async with serving(app) as client:
        first = asyncio.create_task(post(client))
        await gate.reached()
        assert (await post(client)).status_code == 503
        told = await scraped(client)
        assert (told["swap_photos_inside"], told["swap_photos_limit"]) == (1, 1)
        gate.open()
        await first
        assert (await post(client, bytes(6_000))).status_code == 413
        parts_of(app).lifecycle.drain()
        await client.get("/health/ready")
        told = await scraped(client)
    refused = {name: value for name, value in told.items() if name.startswith("swap_rejected_total")}
    assert refused == {
        'swap_rejected_total{reason="queue-full"}': 1,
        'swap_rejected_total{reason="body-too-large"}': 1,
    }
    assert told["swap_ready"] == 0


async def test_loads_that_failed_are_counted() -> None:
    swapper = FakeSwapper()
    swapper.decoders.cold = {"echo", "negative"}

    def load(identity: str) -> None:
        if identity == "echo":
            raise BundleError("it is damaged")

    def refuse(_: Path) -> FakeSwapper:
        raise BundleError("no bundle")

    swapper.on_load, swapper.on_reopen = load, refuse
    async with serving(make_app(swapper, admin_key="k" * 16)) as client:
        told = await scraped(client)
        assert told['swap_loads_total{outcome="failed",what="decoder"}'] == 0
        await post(client)
        await post(client, target="negative")
        await client.post("/admin/reload", headers={"Authorization": "Bearer " + "k" * 16})
        told = await scraped(client)
    assert told['swap_loads_total{outcome="failed",what="decoder"}'] == 1
    assert told['swap_loads_total{outcome="done",what="decoder"}'] == 1
    assert told['swap_loads_total{outcome="failed",what="bundle"}'] == 1
    assert told['swap_requests_total{identity="echo",outcome="bundle-unusable"}'] == 1


async def test_a_dead_worker_and_the_provider_are_told() -> None:
    app = make_app()
    async with serving(app) as client:
        told = await scraped(client)
        assert told['swap_provider_info{precision="fp32",provider="CPUExecutionProvider"}'] == 1
        assert (told["swap_workers_dead"], told["swap_ready"], told["swap_identities"]) == (0, 1, 2)
        assert told["process_resident_memory_bytes"] > 2**20
        parts_of(app).batcher._workers[0].beat = -1e9
        assert (await scraped(client))["swap_workers_dead"] == 1


def test_a_thousand_identities_have_names_and_no_more() -> None:
    class Answer:
        clock = Clock()

        def __init__(self, target: str) -> None:
            self.target = target

    metrics = Metrics()
    for number in range(NAMES + 5):
        for _ in range(2):
            metrics.answered(Answer(f"p{number}"))
    value = metrics.registry.get_sample_value
    assert value("swap_requests_total", {"identity": f"p{NAMES - 1}", "outcome": "swapped"}) == 2
    assert value("swap_requests_total", {"identity": OTHERS, "outcome": "swapped"}) == 10


def test_two_processes_with_one_folder_are_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "numbers"
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    prepare(folder)
    (folder / "gauge_livesum_4194305.db").write_bytes(b"of a process that was killed")
    prepare(folder)
    with (tmp_path / "log").open("w+") as log, slow_service(log) as one, slow_service(log) as two:
        for service, swaps in ((one, 2), (two, 3)):
            for _ in range(swaps):
                assert service.request("POST", "/swap?target=echo", photo())[0] == 200
        for service in (one, two):
            told = samples(service.request("GET", "/metrics")[1].decode())
            assert told['swap_requests_total{identity="echo",outcome="swapped"}'] == 5
            assert told["swap_photos_limit"] == 512
            assert told["swap_batch_size_count"] == 5
        assert two.stop() == 0
        told = samples(one.request("GET", "/metrics")[1].decode())
        assert told['swap_requests_total{identity="echo",outcome="swapped"}'] == 5
        assert told["swap_photos_limit"] == 256, "gauges of a process that has ended count no more"


def test_a_folder_for_metrics_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "file")}
    child = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0"], env=environment, capture_output=True, text=True
    )
    assert child.returncode == 2
    assert re.fullmatch(r"faceswapd: PROMETHEUS_MULTIPROC_DIR: cannot use the folder: [^\n]+\n", child.stderr)


@pytest.mark.parametrize(
    ("text", "limit"), [("4096\n", 4096), ("max\n", None), ("9223372036854771712", None)]
)
def test_the_memory_limit_is_that_of_the_cgroup(tmp_path: Path, text: str, limit: int | None) -> None:
    (tmp_path / "limit").write_text(text)
    assert memory_limit((tmp_path / "absent", tmp_path / "limit")) == limit


class FakeDriverLibrary:
    """NVML with one GPU, whose use it does not tell."""

    def nvmlInit_v2(self) -> int:  # noqa: N802 - NVIDIA's name
        return 0

    def nvmlDeviceGetCount_v2(self, count: object) -> int:  # noqa: N802
        count._obj.value = 1  # type: ignore[attr-defined]
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, _index: int, _device: object) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetMemoryInfo(self, _device: object, memory: object) -> int:  # noqa: N802
        memory._obj.used, memory._obj.total = 5, 8  # type: ignore[attr-defined]
        return 0

    def nvmlDeviceGetUtilizationRates(self, _device: object, _use: object) -> int:  # noqa: N802
        return 3


def test_a_gpu_tells_what_it_knows_and_a_machine_without_one_nothing() -> None:
    (gpu,) = Driver(FakeDriverLibrary()).gpus()
    assert (gpu.index, gpu.memory_used, gpu.memory_total, gpu.busy) == (0, 5, 8, None)
    if not Path("/dev/nvidiactl").exists():
        assert Driver().gpus() == []
