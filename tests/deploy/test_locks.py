"""deploy/locks: hashes for everything, no addresses, the versions that were tested, nothing missing."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.conftest import ROOT

LOCKS = ROOT / "deploy" / "locks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HINT = "run `make locks`"


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def lock(name: str) -> str:
    return (LOCKS / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", ["cpu", "gpu", "build", "audit"])
def test_every_file_is_known_by_its_hash_and_none_by_its_address(name: str) -> None:
    blocks = re.split(r"\n(?=\S)", lock(name).strip())
    assert all(
        re.fullmatch(r"[\w.-]+==[^\s;]+( ; [^\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", b) for b in blocks
    )


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_the_locked_versions_are_the_tested_ones(name: str) -> None:
    tested = pins((ROOT / "constraints.txt").read_text()).items()
    assert pins(lock(name)).items() <= tested, HINT


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_what_the_service_asks_for_is_locked(name: str) -> None:
    """With what that asks for in turn, as far as it is installed here."""
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [Requirement(each) for each in PROJECT["project"]["dependencies"] + extras[name]]
    names = {canonicalize_name(each.name) for each in wanted}
    assert names | {n for each in names for n in _needed_by(each)} <= set(pins(lock(name))), HINT


def _needed_by(name: str) -> set[str]:
    try:
        needed = [Requirement(each) for each in requires(name) or []]
    except PackageNotFoundError:
        return set()
    return {
        canonicalize_name(each.name)
        for each in needed
        if not each.marker or each.marker.evaluate({"extra": ""})
    }


def test_the_wheel_is_built_by_locked_tools() -> None:
    (backend,) = PROJECT["build-system"]["requires"]
    name, _, version = backend.partition("==")
    assert pins(lock("build"))[name] == version, HINT


def test_cpu_and_gpu_never_meet() -> None:
    assert "onnxruntime-gpu" not in pins(lock("cpu"))
    assert "onnxruntime" not in pins(lock("gpu"))


def test_the_image_takes_nothing_without_a_hash() -> None:
    """Every pip command that may ask an index asks for hashes."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    commands = re.findall(r"pip (?:install|wheel|download)\b[^&\n]*", text)
    assert commands
    offline = ("--no-index", "--no-deps --no-build-isolation")
    assert all("--require-hashes" in each or any(words in each for words in offline) for each in commands)
