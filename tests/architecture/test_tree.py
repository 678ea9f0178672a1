"""What is committed: nothing of the machine it was made on, nothing too big to clone."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_BYTES = 16 * 2**20
"""Code hosts warn at 50 MB; a clone should stay quick."""

# Written so that this file does not match itself.
MACHINE = re.compile(
    r"(?<![\w.-])/(?:w[o]rk|r[o]ot|f[a]rm|t[m]p/venv)\b"
    r"|https?://[^\s/]+(?:/[^\s/]+)*/(?:s[i]mple|d[i]sts|-)/"
    r"|p[y]pi\.org|p[y]thonhosted\.org|registry\.n[p]mjs|deb\.d[e]bian\.org"
)
"""Build folders and package registries: what a file should never know about where it was made."""


def _files() -> list[Path]:
    """Tracked files, and new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []


def test_no_file_names_the_machine_it_was_written_on() -> None:
    lines = [(path.relative_to(ROOT), line) for path in _files() for line in _lines(path)]
    assert [(str(path), line) for path, line in lines if MACHINE.search(line)] == []


@pytest.mark.parametrize(
    "line", ["cd /w" + "ork/main", "in /r" + "oot", "https://host.example/s" + "imple/x"]
)
def test_the_machine_pattern_finds(line: str) -> None:
    assert MACHINE.search(line)


@pytest.mark.parametrize("line", ["WORKDIR /app/work", "network/main", "https://example.org/simpler"])
def test_the_machine_pattern_leaves(line: str) -> None:
    assert not MACHINE.search(line)


def test_no_file_is_too_big() -> None:
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in _files()}
    assert {name: size for name, size in sizes.items() if size > MAX_BYTES} == {}


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = re.findall(r"^([\w.-]+)==[\w.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    extras = project["optional-dependencies"].values()
    wanted = project["dependencies"] + [requirement for extra in extras for requirement in extra]
    names = {re.split(r"[\[<>=!~ ]", requirement)[0] for requirement in wanted} - {project["name"]}
    assert names - set(pinned) == set()
