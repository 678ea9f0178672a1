"""Writes tests/service/openapi.json: `make openapi`, or `python -m tests.write_openapi`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeSwapper

SNAPSHOT = Path(__file__).parent / "service" / "openapi.json"


def description() -> dict[str, Any]:
    """What /openapi.json says with the default settings, but for the version, which changes alone."""
    schema = create_app(Settings(), FakeSwapper()).openapi()
    schema["info"]["version"] = "any"
    read: dict[str, Any] = json.loads(json.dumps(schema))
    return read


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(description(), indent=1, sort_keys=True) + "\n")
