"""The NVIDIA card that figures were measured on, as its driver names it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import Any

QUERY = ("name", "driver_version", "memory.total", "compute_cap", "power.limit")


def _nvidia_smi(arguments: Sequence[str]) -> str:
    output = subprocess.run(["nvidia-smi", *arguments], check=True, capture_output=True, timeout=30)
    return output.stdout.decode()


def card(ask: Callable[[Sequence[str]], str] = _nvidia_smi) -> dict[str, Any]:
    """JSON-ready; what cannot be found out is None, one card is described and `cards` says how many."""
    try:
        said = ask([f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"])
    except (OSError, subprocess.SubprocessError):
        said = ""
    lines = [line for line in said.splitlines() if line.strip()]
    values = [value.strip() for value in lines[0].split(",")] if lines else [None] * len(QUERY)
    return {**dict(zip(QUERY, values, strict=False)), "cards": len(lines) or None}
