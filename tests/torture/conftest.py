"""Hostile input and faults: small in the ordinary suite, in full by `make torture`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.machine import facts
from tests.torture.sizes import FULL, Tally

OUT = "TORTURE_OUT"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "torture" in item.path.parts:
            item.add_marker("torture")


@pytest.fixture(scope="session")
def tally() -> Iterator[Tally]:
    """Takes the figures of each test; written at the end to the file that TORTURE_OUT names."""
    tally = Tally()
    yield tally
    if out := os.environ.get(OUT):
        report = {
            "measured": datetime.now(UTC).date().isoformat(),
            "machine": facts(),
            "full": FULL,
            "rows": tally.rows,
        }
        Path(out).write_text(json.dumps(report, indent=1) + "\n")
