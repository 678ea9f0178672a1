"""What a figure was measured on: processor, cores, versions. No host names, users or paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from faceswap.sessions import available_cores

PACKAGES = ("faceswapd", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow", "fastapi", "uvicorn")


def facts() -> dict[str, Any]:
    """JSON-ready facts about this machine; versions of those packages that are installed."""
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    """The model's name as Linux gives it, elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _memory_gib() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (OSError, ValueError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
