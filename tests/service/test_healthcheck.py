"""python -m service.healthcheck: for containers without curl."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service import healthcheck

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, "http://127.0.0.1:8000/health/ready"),
        ("0.0.0.0", "http://127.0.0.1:8000/health/ready"),
        ("::", "http://[::1]:8000/health/ready"),
        ("10.0.0.7", "http://10.0.0.7:8000/health/ready"),
    ],
)
def test_the_address_follows_the_settings(
    host: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host:
        monkeypatch.setenv("FACESWAPD_HOST", host)
    assert healthcheck.url_from_environment() == url


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/health/ready", "nonsense", "http://127.0.0.1:x/"])
def test_nobody_there_is_not_ready(url: str) -> None:
    assert healthcheck.main([url]) == 1


def test_it_loads_nothing_but_the_standard_library() -> None:
    code = "import service.healthcheck, sys; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(loaded.stdout.split()) <= {*sys.stdlib_module_names, "__main__", "service"}
