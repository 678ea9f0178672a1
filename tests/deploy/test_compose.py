"""docker-compose.yml: every service is locked up, and its variables are settings."""

from __future__ import annotations

import re
from typing import cast

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is in the dev extra")

from service.keyring import check_doors  # noqa: E402  (after importorskip)
from service.keys import KeysError  # noqa: E402
from service.settings import ENV_PREFIX, Settings  # noqa: E402
from tests.deploy.conftest import ROOT  # noqa: E402
from tests.deploy.kustomize import Tree  # noqa: E402
from tests.service.test_keys import made  # noqa: E402

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


def interpolated(text: str, **variables: str) -> str:
    """${NAME:-default} as compose fills it in."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], text)


def settings(name: str, **variables: str) -> Settings:
    """What the service of that name would read, as the image sets its host."""
    environment = SERVICES[name]["environment"] | {"FACESWAPD_HOST": "0.0.0.0"}
    values = {
        key.removeprefix(ENV_PREFIX).lower(): interpolated(value, **variables)
        for key, value in environment.items()
    }
    return Settings.model_validate(values)


@pytest.mark.parametrize("name", ["faceswapd", "faceswapd-gpu"])
def test_who_opens_the_ports_needs_keys(name: str) -> None:
    check_doors(settings(name))
    for opened in ({"BIND": "0.0.0.0"}, {"EDGE_BIND": "192.0.2.1"}):
        with pytest.raises(KeysError, match=r"service\.keys new"):
            check_doors(settings(name, **opened))
        check_doors(settings(name, **opened, ANYONE_MAY_SWAP="true"))
        check_doors(settings(name, **opened, KEYS=f"{made()[0]}\n{made()[0]}\n"))


def test_a_pod_reads_its_keys_from_the_secret_that_the_docs_name() -> None:
    manifest = (ROOT / "deploy/kubernetes/base/deployment.yaml").read_text()
    container = yaml.safe_load(manifest)["spec"]["template"]["spec"]
    (keys,) = (volume["secret"]["secretName"] for volume in container["volumes"] if volume["name"] == "keys")
    file = re.search(r"FACESWAPD_KEYS_FILE\n\s+value: /etc/faceswapd/keys/(\S+)", manifest)
    assert file is not None
    told = f"kubectl create secret generic {keys} --namespace faceswapd --from-file={file[1]}"
    assert told in (ROOT / "docs/deploy.md").read_text()
