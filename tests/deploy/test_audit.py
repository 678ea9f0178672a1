"""deploy/audit.py: "could not ask" never looks like "nothing known"."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT

LOCK = "a==1 \\\n    --hash=sha256:0\nb==2 \\\n    --hash=sha256:0\n"
HOLE = {"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}


def dependency(name: str, version: str, *holes: object) -> dict[str, object]:
    return {"name": name, "version": version, "vulns": list(holes)}


@pytest.mark.parametrize(
    ("answered", "code", "words"),
    [
        ([dependency("a", "1"), dependency("b", "2")], 0, "2 packages audited, 0 known holes"),
        ([dependency("a", "1", HOLE), dependency("b", "2")], 1, "a 1 has PYSEC-1; fixed in 1.1"),
        ([dependency("a", "1")], 3, "NOT AUDITED"),
        ([dependency("a", "1"), {"name": "b", "skip_reason": "not found"}], 3, "NOT AUDITED"),
        (None, 3, "NOT AUDITED, nothing is known about its packages: no network"),
    ],
)
def test_exit_codes(tmp_path: Path, answered: list[object] | None, code: int, words: str) -> None:
    """Over a stand-in for pip-audit that says `answered`, or breaks off."""
    (tmp_path / "lock.txt").write_text(LOCK)
    report = "" if answered is None else json.dumps({"dependencies": answered, "fixes": []})
    program = f"import sys; sys.stdout.write({report!r}); sys.exit({'no network'!r} if not {report!r} else 0)"
    (tmp_path / "pip_audit.py").write_text(program)
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "audit.py"), str(tmp_path / "lock.txt")],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr


def test_a_known_hole_weighs_more_than_a_lock_that_nobody_answered_for(tmp_path: Path) -> None:
    """The stand-in answers for the first lock only."""
    (tmp_path / "one.txt").write_text(LOCK.partition("b==")[0])
    (tmp_path / "two.txt").write_text(LOCK)
    report = json.dumps({"dependencies": [dependency("a", "1", HOLE)]})
    (tmp_path / "pip_audit.py").write_text(f"import sys; sys.stdout.write({report!r})")
    locks = [str(tmp_path / "one.txt"), str(tmp_path / "two.txt")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "audit.py"), *locks],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
    )
    assert done.returncode == 1
