"""The client as a package of its own: what it needs, and nothing that only a service needs."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "faceswap_client"


def test_it_is_in_step_with_the_service_s_project() -> None:
    own = tomllib.loads((CLIENT / "pyproject.toml").read_text())
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert own["project"]["dependencies"] == whole["project"]["optional-dependencies"]["client"]
    assert own["project"]["version"] == whole["project"]["version"]
    assert own["build-system"] == whole["build-system"]


def test_it_imports_only_what_it_asks_for() -> None:
    allowed = {"anyio", "httpx", "websockets", "faceswap_client", *sys.stdlib_module_names}
    for file in CLIENT.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            assert {name.partition(".")[0] for name in names} <= allowed, file.name
