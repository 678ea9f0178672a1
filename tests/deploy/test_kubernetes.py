"""The manifests are valid, fit the service as it is, and keep the promises that their comments make."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is in the dev extra")

from service.app import create_app  # noqa: E402  (after importorskip)
from service.settings import ENV_PREFIX, Settings  # noqa: E402
from tests.deploy.conftest import KUBERNETES, ROOT  # noqa: E402
from tests.deploy.kustomize import NotRenderedError, Tree, containers, merged, render  # noqa: E402
from tests.service.fakes import FakeSwapper  # noqa: E402

VERSIONS = ("1.33", "1.37")
"""The oldest with image volumes, and the newest that kubernetes-validate knows."""
CLOSING_S = 5
"""For the last answers on the wire and the threads, after the grace period."""


def of_kind(manifests: list[Tree], kind: str) -> Tree:
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def pod(manifests: list[Tree]) -> Tree:
    return cast(Tree, of_kind(manifests, "Deployment")["spec"]["template"]["spec"])


def service_container(manifests: list[Tree]) -> Tree:
    return containers(of_kind(manifests, "Deployment"))[-1]


def environment(manifests: list[Tree]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in service_container(manifests)["env"]}


def settings(manifests: list[Tree]) -> Settings:
    """What the service would read in such a pod."""
    values = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in environment(manifests).items()}
    return Settings.model_validate(values)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_them(way: Path, version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in the dev extra")
    for manifest in render(way):
        validator.validate(manifest, version, strict=True)


def test_the_validator_refuses_a_slip(way: Path) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in the dev extra")
    manifests = render(way)
    pod(manifests)["terminationGracePeriod"] = 35
    with pytest.raises(validator.ValidationError):
        validator.validate(of_kind(manifests, "Deployment"), VERSIONS[-1], strict=True)


def test_the_real_kustomize_renders_the_same(way: Path) -> None:
    kustomize = shutil.which("kustomize")
    if kustomize is None:
        pytest.skip("kustomize is not installed")
    built = subprocess.run([kustomize, "build", str(way)], capture_output=True, text=True, check=True).stdout
    assert sorted(map(_sorted, yaml.safe_load_all(built))) == sorted(map(_sorted, render(way)))


def _sorted(tree: Any) -> str:
    """The same text for the same manifest, whatever the order of its maps and lists."""
    if isinstance(tree, dict):
        return json.dumps({key: _sorted(value) for key, value in sorted(tree.items())})
    return json.dumps(sorted(map(_sorted, tree)) if isinstance(tree, list) else tree)


def test_every_variable_is_a_setting(way: Path) -> None:
    names = environment(render(way))
    assert names
    known = {f"{ENV_PREFIX}{field}".upper() for field in Settings.model_fields}
    assert set(names) - known == set()
    assert settings(render(way)).host == "0.0.0.0"


def test_no_variable_comes_from_the_service_of_the_same_name(way: Path) -> None:
    """Kubernetes would set FACESWAPD_PORT=tcp://10.0.0.1:8000, which is no port."""
    manifests = render(way)
    assert of_kind(manifests, "Service")["metadata"]["name"].upper() + "_" == ENV_PREFIX
    assert pod(manifests)["enableServiceLinks"] is False


def test_ports_meet(way: Path) -> None:
    manifests = render(way)
    (port,) = service_container(manifests)["ports"]
    (offered,) = of_kind(manifests, "Service")["spec"]["ports"]
    (rule,) = of_kind(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert port["containerPort"] == settings(manifests).port
    assert port["name"] == offered["targetPort"] == rule["ports"][0]["port"]
    probes = [probe for key, probe in service_container(manifests).items() if key.endswith("Probe")]
    assert {probe["httpGet"]["port"] for probe in probes} == {port["name"]}


def test_probes_ask_what_the_service_answers(way: Path) -> None:
    container = service_container(render(way))
    asked = {key: probe["httpGet"]["path"] for key, probe in container.items() if key.endswith("Probe")}
    assert asked == {
        "startupProbe": "/health/live",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    routes = create_app(Settings(), FakeSwapper()).openapi()["paths"]
    assert set(asked.values()) <= set(routes)


def test_a_stop_has_the_time_that_it_needs(way: Path) -> None:
    """What came in before the stop is read, swapped and answered before the kubelet kills."""
    manifests = render(way)
    wanted = settings(manifests)
    asleep = service_container(manifests)["lifecycle"]["preStop"]["sleep"]["seconds"]
    stopping = max(wanted.shutdown_grace_s, wanted.drain_s) + CLOSING_S
    assert pod(manifests)["terminationGracePeriodSeconds"] >= asleep + stopping
    assert wanted.body_timeout_s + wanted.deadline_ms / 1000 <= wanted.shutdown_grace_s


def test_selectors_find_the_pods(way: Path) -> None:
    manifests = render(way)
    labels = of_kind(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    spread = pod(manifests)["topologySpreadConstraints"]
    chosen = [
        of_kind(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
        of_kind(manifests, "Service")["spec"]["selector"],
        of_kind(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in spread),
    ]
    assert all(each and each.items() <= labels for each in chosen)
    target = of_kind(manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "faceswapd")
    assert pod(manifests)["serviceAccountName"] == of_kind(manifests, "ServiceAccount")["metadata"]["name"]


def test_every_container_is_locked_up(way: Path) -> None:
    """The level `restricted` of Kubernetes' Pod Security Standards, and a read-only root."""
    manifests = render(way)
    locks = pod(manifests)["securityContext"]
    assert locks["runAsNonRoot"] is True
    assert f"USER {locks['runAsUser']}:{locks['runAsGroup']}" in (ROOT / "Dockerfile").read_text()
    assert locks["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(manifests)["automountServiceAccountToken"] is False
    for container in containers(of_kind(manifests, "Deployment")):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    assert of_kind(manifests, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == (
        "restricted"
    )


def test_what_is_mounted_exists_and_the_bundle_is_read_only(way: Path) -> None:
    manifests = render(way)
    volumes = {volume["name"] for volume in pod(manifests)["volumes"]}
    for container in containers(of_kind(manifests, "Deployment")):
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes
            if mount["name"] == "bundle":
                assert (mount["mountPath"], mount["readOnly"]) == (str(settings(manifests).bundle), True)


def test_all_containers_run_one_image_for_the_device(way: Path) -> None:
    manifests = render(way)
    device = settings(manifests).device.value
    tag = {"cuda": "gpu", "cpu": "cpu"}[device]
    assert {each["image"] for each in containers(of_kind(manifests, "Deployment"))} == {f"faceswapd:{tag}"}
    gpus = service_container(manifests)["resources"]["limits"].get("nvidia.com/gpu", 0)
    assert gpus == (1 if device == "cuda" else 0)


def test_the_queue_that_is_waited_for_is_one_batch(way: Path) -> None:
    manifests = render(way)
    (metric,) = of_kind(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    if metric["type"] == "Resource":
        pytest.skip("follows the CPU")
    provider = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}[
        settings(manifests).device.value
    ]
    assert int(metric["pods"]["target"]["averageValue"]) == settings(manifests).batch_limit(provider)
    rule = (ROOT / "docs" / "deploy.md").read_text()
    assert f'as: "{metric["pods"]["metric"]["name"]}"' in rule


def check_bundle(folder: Path) -> subprocess.CompletedProcess[str]:
    """The init container's own command, over another folder."""
    patch = yaml.safe_load((KUBERNETES / "components/bundle-claim/deployment.yaml").read_text())
    python, *options, path = containers(patch)[0]["command"]
    assert (python, path) == ("python", "/app/bundle")
    return subprocess.run(
        [sys.executable, *options, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_the_init_container_lets_a_whole_bundle_through(identity_bundle: Path) -> None:
    done = check_bundle(identity_bundle)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"check-bundle: \d+ files of bundle [\w-]+ are what they should be\n", done.stdout)


def test_the_init_container_stops_a_flipped_bit_in_one_line(identity_bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "bundle"
    shutil.copytree(identity_bundle, broken)
    graph = next(broken.glob("decoders/*.onnx"))
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    done = check_bundle(broken)
    assert done.returncode != 0
    assert re.fullmatch(rf"check-bundle: [^\n]*{graph.name}[^\n]* is damaged[^\n]*\n", done.stderr)


def test_a_patch_merges_named_lists_and_replaces_others() -> None:
    old = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": [1, 2], "gone": 1}
    patch = {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}], "args": [3], "gone": None}
    assert merged(old, patch) == {
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
        "args": [3],
    }


def test_what_the_renderer_does_not_know_it_refuses(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\nhelmCharts: []\n")
    with pytest.raises(NotRenderedError, match="helmCharts"):
        render(tmp_path)
