"""Bars are drawn where somebody watches, and nowhere else."""

from __future__ import annotations

import pytest

from benchmarks.progress import each, steps


def test_items_and_steps_pass_as_they_are_and_a_log_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(each("abc", 3, "letter")) == ["a", "b", "c"]
    with steps(2) as step:
        step("one")
        step("two")
    assert capsys.readouterr().err == ""


def test_on_a_terminal_they_are_seen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with steps(2) as step:
        step("bare loops")
    told = capsys.readouterr().err
    assert "1/2" in told and "bare loops" in told
