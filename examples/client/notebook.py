"""python -m examples.client.notebook [URL]: runs faceswapd.ipynb and keeps what it shows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("faceswapd.ipynb")
ROOT = Path(__file__).parents[2]


def run(url: str) -> Any:
    """The notebook with its outputs; nothing of the machine or of the moment in it."""
    os.environ |= {"FACESWAPD_URL": url, "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=120, resources=folder, record_timing=False).execute()
    notebook.metadata.language_info = {"name": "python"}
    nbformat.validate(notebook)
    return notebook


if __name__ == "__main__":
    shown = run(*sys.argv[1:] or ["http://127.0.0.1:8000"])
    nbformat.write(shown, NOTEBOOK)  # type: ignore[no-untyped-call]
