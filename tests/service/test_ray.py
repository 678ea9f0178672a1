"""The service on Ray: routing by identity, what a replica takes, and two replicas on a real Ray."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from faceswap.sessions import Device
from service.ray_routing import ByIdentity, identity_of
from service.ray_settings import RaySettings
from service.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "query", "identity"),
    [
        ("/swap", b"target=will&crop=none", "will"),
        ("/swap/batch", b"target=will", "will"),
        ("/swap", b"target=will,yuna", None),
        ("/swap", b"target=will&target=yuna", None),
        ("/swap", b"target=", None),
        ("/swap", b"target=%C3%A9", None),
        ("/swap", b"", None),
        ("/v2/models/will/infer", b"", "will"),
        ("/v2/models/will/versions/1/infer", b"", "will"),
        ("/v2/models/will", b"", None),
        ("/v2/models/infer", b"", None),
        ("/identities", b"target=will", None),
    ],
)
def test_the_identity_of_a_request(path: str, query: bytes, identity: str | None) -> None:
    assert identity_of(path, query) == identity


def test_the_router_is_told_and_the_client_has_no_say() -> None:
    """A client that names another identity would only make its own swap slower, and others' decoders go."""
    seen: list[Any] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["headers"])

    given = [(b"host", b"x"), (b"Serve-Multiplexed-Model-Id", b"yuna")]
    for path in ("/swap", "/identities"):
        scope = {"type": "http", "path": path, "query_string": b"target=will", "headers": given}
        asyncio.run(ByIdentity(app)(scope, None, None))  # type: ignore[arg-type]
    assert seen == [[(b"host", b"x"), (b"serve_multiplexed_model_id", b"will")], [(b"host", b"x")]]


def test_a_replica_takes_what_ray_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    whole = RaySettings(cpus=2).of_a_replica(settings)
    assert (whole.workers, whole.image_threads, whole.device) == (2, 2, Device.AUTO)
    quarter = RaySettings(gpus=0.25, cpus=1.5)
    assert quarter.options(settings)["ray_actor_options"] == {"num_cpus": 1.5, "num_gpus": 0.25}
    assert quarter.of_a_replica(settings).device is Device.CUDA, "never the CPU in silence"
    assert quarter.of_a_replica(settings).workers is None
    monkeypatch.setenv("FACESWAPD_RAY_MAX_REPLICAS", "9")
    scaling = RaySettings().options(Settings(queue_images=7))
    assert scaling["max_ongoing_requests"] == 7
    assert (scaling["autoscaling_config"]["min_replicas"], scaling["autoscaling_config"]["max_replicas"]) == (
        1,
        9,
    )


@pytest.mark.slow
@pytest.mark.skipif(not all(map(find_spec, ("ray", "grpc"))), reason="the extra ray is not installed")
def test_two_replicas_a_kill_and_reloads(identity_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(identity_bundle, tmp_path / "bundle")
    command = [sys.executable, "-m", "tests.service.ray_driver", str(bundle)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert child.returncode == 0, child.stderr[-3000:]
    # Ray writes there as well.
    told = json.loads(next(line for line in child.stdout.splitlines() if line.startswith("{")))
    assert (told["replicas"], told["came_back"]) == (2, True)
    assert (told["load"]["lost"], told["load"]["wrong"]) == (0, 0), told
    assert told["reloads"] == [["echo"], ["echo"]]
    assert told["after"] == [255 - 40]
    assert told["refused"] == [True, True]
    assert told["at_last"] == [255 - 40], "the old bundle goes on"
