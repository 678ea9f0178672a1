"""docker-compose.yml: every service is locked up, and its variables are settings."""

from __future__ import annotations

import re
from typing import cast

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is in the dev extra")

from service.settings import ENV_PREFIX, Settings  # noqa: E402  (after importorskip)
from tests.deploy.conftest import ROOT  # noqa: E402
from tests.deploy.kustomize import Tree  # noqa: E402

SERVICES = cast(dict[str, Tree], yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Tree:
    return SERVICES[request.param]


def test_every_service_is_locked_up(service: Tree) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert all(re.search(r":size=\d+m,.*noexec,nosuid,nodev", mount) for mount in service["tmpfs"])
    assert all(volume.endswith(":ro") for volume in service["volumes"])


def test_only_this_machine_reaches_it_unless_told(service: Tree) -> None:
    assert all(re.match(r"\$\{\w+:-127\.0\.0\.1\}:", port) for port in service["ports"])


def test_every_variable_is_a_setting(service: Tree) -> None:
    known = {f"{ENV_PREFIX}{field}".upper() for field in Settings.model_fields}
    assert set(service.get("environment", {})) - known == set()


def test_only_the_plain_service_starts_by_default() -> None:
    assert [name for name, service in SERVICES.items() if not service.get("profiles")] == ["faceswapd"]


def test_a_stop_has_the_time_that_it_needs() -> None:
    for service in SERVICES.values():
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace >= Settings().shutdown_grace_s + 5


def test_the_edge_mounts_its_configuration_and_waits_for_the_service() -> None:
    edge = SERVICES["edge"]
    source, target, _ = edge["volumes"][0].split(":")
    assert (ROOT / source).is_file()
    assert target in edge["entrypoint"]
    assert edge["depends_on"] == {"faceswapd": {"condition": "service_healthy"}}
    assert int(edge["user"].split(":")[0]) > 0
