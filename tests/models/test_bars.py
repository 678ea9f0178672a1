"""Where nobody watches a terminal, a bar becomes a line now and then."""

from __future__ import annotations

import pytest

from models.bars import progress_bar


def test_a_log_gets_the_end_and_nothing_that_moves(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar("abc", desc="letters", unit="letter")) == ["a", "b", "c"]
    told = capsys.readouterr().out
    assert told.count("\n") == 1 and told.endswith("\n") and "\r" not in told
    assert "letters: 100%" in told and "3/3" in told


def test_a_long_job_says_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("models.bars.time.monotonic", lambda: now[0])
    with progress_bar(total=1000, bar_format="{percentage:.0f}%{postfix}") as bar:
        for minute in range(10):  # ten looks, of which every third comes 30 s after the line before
            now[0], bar.n = 10.0 * minute, 100 * minute
            bar.set_postfix_str(f"loss {minute}")
    assert capsys.readouterr().out.split() == [
        "30%,", "loss", "3", "60%,", "loss", "6", "90%,", "loss", "9", "90%,", "loss", "9",
    ]  # fmt: skip


def test_one_that_is_cut_off_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), progress_bar(total=4, unit="person") as bar:
        bar.update(2)
        raise KeyboardInterrupt
    assert "2/4" in capsys.readouterr().out


def test_a_quiet_one_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar(range(3), disable=True)) == [0, 1, 2]
    assert capsys.readouterr().out == ""


def test_on_a_terminal_it_moves(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert list(progress_bar(range(3), mininterval=0)) == [0, 1, 2]
    assert capsys.readouterr().out.count("\r") >= 3
