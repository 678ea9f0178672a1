"""The documents tell the truth: commands, modules, files and links that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
OURS = ("faceswap", "faceswap_client", "service", "models", "export", "benchmarks", "examples", "tests")


def _code(text: str) -> str:
    """Fenced blocks and `inline code`, with continued lines joined."""
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*fenced, *inline]).replace("\\\n", " ")


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def _missing(document: Path) -> list[str]:
    text = document.read_text()
    code = _code(text)
    targets = re.findall(r"^\s*\$?\s*make ([a-z][a-z0-9-]*)", code, re.MULTILINE)
    modules = [name for name in re.findall(r"python3? -m ([\w.]+)", code) if name.partition(".")[0] in OURS]
    photos = re.findall(r"\bexamples/[\w./-]+\.\w+", code)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not re.match(r"\w+:", link)]
    return [
        *(f"make {target}" for target in targets if target not in TARGETS),
        *(f"python -m {name}" for name in modules if not _is_module(name)),
        *(photo for photo in photos if not (ROOT / photo).exists()),
        *(link for link in links if not (document.parent / link).exists()),
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_exists(document: Path) -> None:
    assert not _missing(document)


@pytest.mark.parametrize("target", ["serve", "test", "lint", "bench", "demo", "train-demo"])
def test_the_one_door_has(target: str) -> None:
    assert target in TARGETS


def test_the_image_gets_what_it_copies() -> None:
    """.dockerignore starts from nothing, so a room that the image needs must be named in it."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = [name for line in copied for name in line.split() if not name.startswith("$")]
    assert names
    assert all(f"!{name}" in lines or f"!{name}/" in lines for name in names)
