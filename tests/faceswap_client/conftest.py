"""For every test of the client: one event loop, one real service over the identity networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.server import HOST, serving

pytest.importorskip("httpx", reason="httpx is in the client extra")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def url(identity_bundle: Path) -> Iterator[str]:
    """The address of a running service with echo, negative and cutout."""
    with serving(identity_bundle, "cpu") as server:
        yield f"http://{HOST}:{server.port}"
