"""What needs no browser: every error has its words, and the browser is found or asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.errors import TABLE
from tests.page import browser

STATIC = Path(__file__).parents[2] / "service" / "static"
UNSEEN = (
    *("admin-", "reload-", "client-gone", "method-not-allowed", "not-found", "no-preview"),
    *("bad-encoding", "bad-tensor", "unknown-version", "unsupported-encoding"),  # of other protocols
)
"""Beginnings of errors that the page cannot bring about, or that only leave out a picture."""


def test_every_error_that_a_person_may_meet_has_words() -> None:
    words = set(re.findall(r'^  "([a-z-]+)": \[', (STATIC / "words.js").read_text(), re.MULTILINE))
    met = {kind.slug for kind in TABLE.values() if not kind.slug.startswith(UNSEEN)}
    assert met - words == set()


@pytest.mark.parametrize("module", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_texts_are_never_made_into_html_and_nothing_is_fetched_from_elsewhere(module: Path) -> None:
    text = module.read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert set(re.findall(r"https?://[^\s\"',]+", text)) <= {"http://localhost", "http://www.w3.org/2000/svg"}


def test_a_browser_that_is_missing_and_cannot_be_installed_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser.find() is None
    assert browser.main() == 1
    assert "apt-get install chromium" in capsys.readouterr().err


def test_a_browser_on_path_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "google-chrome"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser.find() == str(program)
    assert browser.main() == 0
