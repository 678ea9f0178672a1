"""The part of kustomize that deploy/kubernetes uses, so that its tests need no Go program.

What it does not know it refuses, so it can leave nothing out in silence. Where the real one is installed,
test_kubernetes.py compares the two.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import yaml

Tree = dict[str, Any]

KNOWN = {"apiVersion", "kind", "namespace", "resources", "components"}
KNOWN |= {"patches", "images", "labels", "replacements"}
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
"""Lists that a patch merges by this key, as in Kubernetes itself; any other list is replaced as a whole."""
CLUSTER_WIDE = {"Namespace"}


class NotRenderedError(Exception):
    """A kustomization uses what this file does not know."""


def render(folder: Path) -> list[Tree]:
    """The manifests that `kustomize build folder` prints, in the order in which they are named."""
    return _apply(folder, [])


def _apply(folder: Path, manifests: list[Tree]) -> list[Tree]:
    """`manifests` and those of the kustomization in `folder`, changed as it says."""
    asked = cast(Tree, yaml.safe_load((folder / "kustomization.yaml").read_text()))
    if unknown := set(asked) - KNOWN:
        raise NotRenderedError(f"{folder}/kustomization.yaml: {', '.join(sorted(unknown))}")
    manifests = [
        *manifests,
        *(found for name in asked.get("resources", []) for found in _read(folder / name)),
    ]
    for name in asked.get("components", []):
        manifests = _apply(folder / name, manifests)
    for patch in asked.get("patches", []):
        if set(patch) != {"path"}:
            raise NotRenderedError(f"{folder}: a patch that is no file")
        for part in yaml.safe_load_all((folder / patch["path"]).read_text()):
            manifests = _patched(manifests, part)
    for manifest in manifests:
        _stamp(manifest, asked)
    for replacement in asked.get("replacements", []):
        _replace(manifests, replacement)
    return manifests


def _read(path: Path) -> list[Tree]:
    return render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))


def _patched(manifests: list[Tree], patch: Tree) -> list[Tree]:
    target = _name(patch)
    if target not in map(_name, manifests):
        raise NotRenderedError(f"a patch of {target}, which is not there")
    return [merged(each, patch) if _name(each) == target else each for each in manifests]


def _name(manifest: Tree) -> tuple[str, str, str]:
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


def merged(old: Tree, patch: Tree) -> Tree:
    """A strategic merge: maps by key, named lists by their merge key, null removes, the rest is replaced."""
    new = deepcopy(old)
    for key, value in patch.items():
        if key.startswith("$"):
            raise NotRenderedError(f"the directive {key}")
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = merged(new.get(key) or {}, value)
        elif key in MERGE_KEYS:
            new[key] = _merged_list(new.get(key) or [], value, MERGE_KEYS[key])
        else:
            new[key] = deepcopy(value)
    return new


def _merged_list(old: list[Tree], patch: list[Tree], key: str) -> list[Tree]:
    """Items of `patch` merged into those with the same key, new ones behind them."""
    by_key = {item[key]: item for item in old}
    for item in patch:
        by_key[item[key]] = merged(by_key.get(item[key], {}), item)
    return list(by_key.values())


def _stamp(manifest: Tree, asked: Tree) -> None:
    """Namespace, labels and image tags, which a kustomization gives to everything."""
    meta = manifest["metadata"]
    if "namespace" in asked and manifest["kind"] not in CLUSTER_WIDE:
        meta["namespace"] = asked["namespace"]
    for labels in asked.get("labels", []):
        if set(labels) != {"pairs"}:
            raise NotRenderedError("labels that go into selectors")
        meta["labels"] = meta.get("labels", {}) | labels["pairs"]
    for image in asked.get("images", []):
        if set(image) != {"name", "newTag"}:
            raise NotRenderedError("an image with another name")
        for container in containers(manifest):
            name = container["image"].partition(":")[0]
            if name == image["name"]:
                container["image"] = f"{name}:{image['newTag']}"


def _replace(manifests: list[Tree], replacement: Tree) -> None:
    """Copies the source's field to each target's."""
    place, last = _field(manifests, replacement["source"], replacement["source"]["fieldPath"])
    value = place[last]
    for target in replacement["targets"]:
        for path in target["fieldPaths"]:
            place, last = _field(manifests, target["select"], path)
            place[last] = value


def _field(manifests: list[Tree], chosen: Tree, path: str) -> tuple[Tree, str]:
    """The map that holds the field, and its key there; a step `[key=value]` picks an item of a list."""
    wanted = chosen["kind"], chosen["name"]
    place: Any = next(each for each in manifests if (each["kind"], each["metadata"]["name"]) == wanted)
    *steps, last = path.split(".")
    for step in steps:
        if step.startswith("["):
            key, _, value = step.strip("[]").partition("=")
            place = next(item for item in place if item[key] == value)
        else:
            place = place[step]
    return place, last


def containers(manifest: Tree) -> list[Tree]:
    """Those of a Deployment's pods, first the init containers; none for any other kind."""
    pod = manifest["spec"]["template"]["spec"] if manifest["kind"] == "Deployment" else {}
    return [*pod.get("initContainers", []), *pod.get("containers", [])]
