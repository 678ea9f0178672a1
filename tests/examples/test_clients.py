"""examples/client does what it says, against a running service."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from examples import answers

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "examples" / "client"


def ran(*command: str | Path) -> str:
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stdout + child.stderr
    return child.stdout


def size(path: Path) -> tuple[int, int]:
    with PillowImage.open(path) as picture:
        return picture.size


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl(url: str, tmp_path: Path) -> None:
    assert "as expected: /problems/no-face" in ran("bash", CLIENT / "swap.sh", url, "echo", tmp_path)
    names = [each["name"] for each in json.loads((tmp_path / "identities.json").read_text())["identities"]]
    assert "echo" in names
    assert size(tmp_path / "face.png") == (64, 64)
    assert size(tmp_path / "photo.jpg") == size(ROOT / "examples" / "a.jpg")
    with zipfile.ZipFile(tmp_path / "swaps.zip") as file:
        assert set(file.namelist()) == {"000-echo.png", "results.json"}


def test_python_sync(url: str, tmp_path: Path) -> None:
    script = (sys.executable, "-m", "examples.client.swap", url, "echo")
    out = tmp_path / "out.jpg"
    assert str(out) in ran(*script, "examples/a.jpg", out)
    assert size(out) == size(ROOT / "examples" / "a.jpg")
    assert ran(*script, "examples/no-face.jpg", out).startswith("another photo, please: ")


def test_python_async(url: str) -> None:
    assert ran(sys.executable, "-m", "examples.client.swap_async", url, "echo").startswith("2 faces; of 30 ")


def test_python_batch(url: str, tmp_path: Path) -> None:
    photos = ("examples/a.jpg", "examples/no-face.jpg")
    said = ran(sys.executable, "-m", "examples.client.batch", url, tmp_path, "echo", *photos)
    assert "no-face: no-face, " in said
    assert size(tmp_path / "a-echo.jpg") == size(ROOT / "examples" / "a.jpg")


@pytest.mark.skipif(not shutil.which("node"), reason="Node is not installed")
def test_javascript_in_node(url: str, tmp_path: Path) -> None:
    assert "examples/no-face.jpg: no-face" in ran("node", CLIENT / "swap.mjs", url, "echo", tmp_path)
    assert size(tmp_path / "photo.jpg") == size(ROOT / "examples" / "a.jpg")
    assert size(tmp_path / "face-0.png") == (64, 64)
    assert not (tmp_path / "face-1.png").exists()


@pytest.mark.skipif(not shutil.which("node"), reason="Node is not installed")
def test_javascript_tells_what_is_wrong(url: str, tmp_path: Path) -> None:
    command = ["node", str(CLIENT / "swap.mjs"), url, "nobody", str(tmp_path)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert child.returncode == 1 and child.stderr.startswith("unknown-identity: ")


def test_the_notebook_runs_and_is_kept_as_it_ran(url: str) -> None:
    pytest.importorskip("nbclient", reason="nbclient is in the dev extra")
    nbformat = pytest.importorskip("nbformat")
    from examples.client import notebook

    environment = dict(os.environ)
    try:
        fresh = notebook.run(url)
    finally:
        os.environ.clear()
        os.environ.update(environment)
    kept = nbformat.read(notebook.NOTEBOOK, as_version=4)
    nbformat.validate(kept)
    cells = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for mine, theirs in zip(fresh.cells, kept.cells, strict=True):
        assert mine.source == theirs.source
    pictures = [output.data for cell in cells for output in cell.outputs if "data" in output]
    shown = [data[kind] for data in pictures for kind in ("image/png", "image/jpeg") if kind in data]
    assert len(shown) >= 3
    assert all(b"DigitalSourceType" in base64.b64decode(data) for data in shown), "swaps, marked as such"


def test_the_pictures_of_the_docs_are_answers(url: str, tmp_path: Path) -> None:
    answers.main(url, "negative", tmp_path)
    for name, wanted in (("face.png", (64, 64)), ("photo.jpg", size(answers.PHOTO))):
        assert size(tmp_path / name) == size(answers.FOLDER / name) == wanted
        assert b"DigitalSourceType" in (answers.FOLDER / name).read_bytes()
        assert PillowImage.open(io.BytesIO((answers.FOLDER / name).read_bytes())).getextrema()
