"""The request's own cost: every case is answered as it should be, whatever it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import request

BUNDLE = Path(__file__).parents[1] / "data" / "identity-bundle"


def test_every_case_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert request.main(["--bundle", str(BUNDLE), "--count", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.endswith(" us") for line in lines)
