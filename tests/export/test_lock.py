"""The lock of a bundle: two exports at once take turns, and none is lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from export.exporter import Request, export
from export.lock import LOCK_NAME, BundleLockedError, locked
from models.checkpoint import Checkpoint
from tests.export.folders import contents

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from export.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "bundle"):
        assert (tmp_path / "new" / "bundle" / LOCK_NAME).exists()
    assert not (tmp_path / "new" / "bundle").exists()
    with locked(tmp_path):
        (tmp_path / "manifest.json").write_text("{}")
    assert set(contents(tmp_path)) == {"manifest.json"}


def test_who_waits_too_long_is_told_for_whom(tmp_path: Path) -> None:
    told = r"after 0.1 s \(it holds .*\.lock\)"
    with locked(tmp_path), pytest.raises(BundleLockedError, match=told), locked(tmp_path, patience_s=0.1):
        raise AssertionError("two at once")
    with locked(tmp_path, patience_s=0.1):
        pass


def test_many_threads_take_turns(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with locked(tmp_path / "bundle", patience_s=30):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.002)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert max(most) == 1
    assert len(most) == 40


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"held"
        with pytest.raises(BundleLockedError), locked(tmp_path, patience_s=0.1):
            raise AssertionError("two at once")
        child.kill()
        child.wait()
    assert (tmp_path / LOCK_NAME).exists(), "nobody could remove it"
    with locked(tmp_path, patience_s=5):
        pass
    assert contents(tmp_path) == {}


def test_two_exports_at_once_both_arrive(checkpoint: Checkpoint, tmp_path: Path) -> None:
    start = threading.Barrier(2)

    def run(name: str) -> None:
        start.wait()
        export(checkpoint, tmp_path / "both", Request(names=[name]))

    folder = tmp_path / "both"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, ["amara", "yuna"]))
    opened = export(checkpoint, folder, Request(names=["will"]))
    assert [entry.name for entry in opened.manifest.identities] == ["amara", "will", "yuna"]
    assert LOCK_NAME not in contents(folder)
