"""Writing a bundle: whole or not at all, wherever it is stopped, and old files stay one generation."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.bundle import BundleWriter, ExportError, write_atomically
from faceswap.bundle import Bundle, FileEntry
from tests.export.folders import change, contents

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bundle(identity_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the identity bundle: echo and negative."""
    return Path(shutil.copytree(identity_bundle, tmp_path / "bundle"))


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    entry = BundleWriter(tmp_path).add("decoders/will", ".onnx", b"graph")
    digest = hashlib.sha256(b"graph").hexdigest()
    assert entry == FileEntry(path=f"decoders/will-{digest[:8]}.onnx", sha256=digest, bytes=5)
    assert (tmp_path / entry.path).read_bytes() == b"graph"


def test_a_file_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path)
    path = tmp_path / writer.add("encoder", ".onnx", b"graph").path
    inode = path.stat().st_ino
    writer.add("encoder", ".onnx", b"graph")
    assert path.stat().st_ino == inode
    path.write_bytes(b"damaged")
    writer.add("encoder", ".onnx", b"graph")
    assert path.read_bytes() == b"graph"


def test_old_files_stay_one_generation(bundle: Path) -> None:
    """A service that was started on the previous manifest goes on loading decoders from it."""
    running = Bundle.open(bundle)
    first = running.identity("echo").decoder
    second = change(bundle, b"second").identity("echo").decoder
    assert running.read(first)
    running = Bundle.open(bundle)
    third = change(bundle, b"third").identity("echo").decoder
    assert running.read(second) == b"second"
    assert not (bundle / first.path).exists()
    assert sorted(path.name for path in (bundle / "decoders").glob("echo-*")) == sorted(
        Path(entry.path).name for entry in (second, third)
    )


def test_replacing_leaves_nothing_of_the_old_bundle(bundle: Path) -> None:
    opened = change(bundle, b"new", replace=True)
    assert set(contents(bundle)) == {"manifest.json", *(entry.path for entry in opened.manifest.files)}


def test_files_of_somebody_else_are_left_alone(bundle: Path) -> None:
    original = set(contents(bundle))
    (bundle / "README.txt").write_text("ours")
    (bundle / "decoders" / "notes.txt").write_text("ours")
    (bundle / "decoders" / "mine.onnx").write_text("ours")
    (bundle / "previews").mkdir(exist_ok=True)
    (bundle / "previews" / "000004224.png").write_text("a training run's")
    (bundle / "checkpoint.pt.partial").write_text("being written")
    theirs = set(contents(bundle)) - original
    change(bundle, b"second")
    change(bundle, b"third")
    change(bundle, b"fourth", replace=True)
    assert len(theirs) == 5
    assert theirs <= set(contents(bundle))


def test_a_file_that_changes_before_the_commit_is_noticed(bundle: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    manifest = Bundle.open(bundle).manifest
    writer = BundleWriter(bundle)
    entry = writer.add("decoders/echo", ".onnx", b"new")
    (bundle / entry.path).write_bytes(b"bad")
    echo = manifest.identities[0].model_copy(update={"decoder": entry})
    with pytest.raises(ExportError, match="changed while it was being written"):
        writer.commit(manifest.model_copy(update={"identities": [echo]}))
    assert (bundle / "manifest.json").read_bytes() == before


def test_writing_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "file"
    write_atomically(path, b"first")
    with path.open("rb") as reader:
        write_atomically(path, b"second, and longer")
        assert reader.read() == b"first", "who has it open reads on in the old one"
    assert path.read_bytes() == b"second, and longer"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


# ---------------------------------------------------------------- stopped anywhere
STOPPED = """
import os, shutil, sys
from pathlib import Path
import export.bundle
from tests.export.folders import change

source, root, replace = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "replace"
steps = 0

def step():
    global steps
    if steps == limit:
        os._exit(9)  # nothing is flushed, no finally is run
    steps += 1

def before_line(frame, event, _):
    if frame.f_code.co_filename == export.bundle.__file__:
        if event == "line":
            step()
        return before_line

def before_system_call(event, arguments):
    if event in ("open", "os.mkdir", "os.rename", "os.remove") and str(root) in str(arguments[0]):
        step()

for limit in range(1000):
    folder = root / f"{limit:03d}"
    shutil.copytree(source, folder)
    Path(folder / "decoders" / "echo-00000000.onnx").write_bytes(b"of two exports ago")
    child = os.fork()
    if child == 0:
        sys.addaudithook(before_system_call)
        sys.settrace(before_line)
        change(folder, b"second", replace)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""
"""Copies of a bundle, each changed by a process that is killed one line or system call later."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("mode", ["add", "replace"])
def test_killed_anywhere_it_leaves_the_old_or_the_new_bundle(
    identity_bundle: Path, tmp_path: Path, mode: str
) -> None:
    command = [sys.executable, "-c", STOPPED, str(identity_bundle), str(tmp_path), mode]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    folders = sorted(tmp_path.iterdir())
    assert len(folders) > 60
    old = (identity_bundle / "manifest.json").read_bytes()
    is_old = []
    for folder in folders:
        bundle = Bundle.open(folder)  # checks every file
        is_old.append((folder / "manifest.json").read_bytes() == old)
        echo = bundle.read(bundle.identity("echo").decoder)
        assert (echo == b"second") != is_old[-1]
    assert is_old == sorted(is_old, reverse=True), "once it is the new one, it stays"
    assert is_old[0] and not is_old[-1]
    assert not (folders[-1] / "decoders" / "echo-00000000.onnx").exists()


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_what_a_stop_left_behind_is_swept_by_the_next_export(bundle: Path, mode: str) -> None:
    (bundle / "decoders" / "echo-12345678.onnx.partial").write_bytes(b"half")
    (bundle / "manifest.json.partial").write_bytes(b"half")
    opened = change(bundle, b"second", mode == "replace")
    assert not list(bundle.rglob("*.partial"))
    assert json.loads((bundle / "manifest.json").read_text())["name"] == opened.manifest.name


def test_a_full_disk_leaves_the_old_bundle(bundle: Path) -> None:
    """A folder in the place of the file that is written first: the write fails as on a full disk."""
    before = contents(bundle)
    digest = hashlib.sha256(b"second").hexdigest()[:8]
    (bundle / "decoders" / f"echo-{digest}.onnx.partial").mkdir()
    with pytest.raises(OSError, match="echo-"):
        change(bundle, b"second")
    assert contents(bundle) == before
    assert Bundle.open(bundle)
