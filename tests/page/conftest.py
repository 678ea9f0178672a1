"""The page in a real browser, on a service that runs as a user starts it, with the bundle that ships."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.server import HOST, serving
from tests.page import browser as browsers

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.page.visits import Visit

ROOT = Path(__file__).parents[2]
HAS_PLAYWRIGHT = all(find_spec(name) for name in ("playwright", "axe_playwright_python"))

collect_ignore_glob = [] if HAS_PLAYWRIGHT else ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not HAS_PLAYWRIGHT:
        terminalreporter.write_line("without playwright: tests/page are not run")


@pytest.fixture(scope="package")
def host() -> Iterator[str]:
    """Where the service is."""
    with serving(ROOT / "bundles" / "demo", "cpu") as server:
        yield f"{HOST}:{server.port}"


# Of the package, not of the session: while Playwright's loop lives, no test can have one of its own.
@pytest.fixture(scope="package")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    from tests.page.visits import EXAMPLES, film, launched

    program = browsers.find()
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(browsers.HOW)
        pytest.skip(browsers.HOW)
    camera = tmp_path_factory.mktemp("camera") / "a.mjpeg"
    camera.write_bytes(film(EXAMPLES / "a.jpg"))
    expect.set_options(timeout=20_000)  # a busy machine is no failure
    with sync_playwright() as playwright:
        browser = launched(playwright, program, camera)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser, host: str) -> Iterator[Visit]:
    """The page, opened on a wide screen."""
    from tests.page.visits import visiting

    with visiting(chromium, host) as visit:
        visit.open()
        yield visit


@pytest.fixture
def on_a_phone(chromium: Browser, host: str) -> Iterator[Visit]:
    """The page at 360 px, dark."""
    from tests.page.visits import PHONE, visiting

    with visiting(chromium, host, PHONE, color_scheme="dark", has_touch=True) as visit:
        visit.open()
        yield visit
