"""docs/threat-model.md names tests: each exists, and every threat that is defended has one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)


def names_in(file: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, functions)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_it_exists(file: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in names_in(ROOT / "tests" / file)


def test_every_defence_has_a_test() -> None:
    defences = TEXT.partition("## Who comes in")[2].partition("## What is not defended")[0]
    rows = [line for line in defences.splitlines() if re.match(r"\| (?!threat|-)", line)]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"`[\w/]+\.py::test_\w+` \|$", row)] == []
