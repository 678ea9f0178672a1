"""In Chromium: the example page swaps, and /docs shows the API with its pictures, from no other host."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "examples" / "client"
TYPES = {".html": "text/html", ".mjs": "text/javascript"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """A page without errors on its console that asked no other host."""
    page, wrong, asked = browser.new_page(), [], []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.close()
    assert wrong == []
    assert [each for each in asked if not each.startswith((url, "data:", "blob:"))] == []


def test_the_example_page_swaps(page: Any, url: str) -> None:
    """Served from the service's own address, as the comment in it says."""

    def file(route: Any) -> None:
        path = CLIENT / route.request.url.partition("?")[0].rpartition("/")[2]
        route.fulfill(body=path.read_bytes(), content_type=TYPES[path.suffix])

    page.route(f"{url}/mine/**", file)
    page.goto(f"{url}/mine/browser.html?target=echo")
    page.set_input_files("#photos", [ROOT / "examples" / "a.jpg", ROOT / "examples" / "no-face.jpg"])
    playwright.expect(page.locator("#status")).to_have_text("1 done; no-face.jpg: no-face", timeout=30_000)
    shown = page.locator("#pictures img")
    assert shown.count() == 1
    assert shown.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") == 900


def test_the_docs_show_real_pictures_and_no_other_host_is_asked(page: Any, url: str) -> None:
    pytest.importorskip("fastapi_swagger", reason="fastapi-swagger is in the docs extra")
    page.goto(f"{url}/docs")
    page.locator("#operations-swap-swap_swap_post").click()
    pictures = page.locator(".responses-table img")
    playwright.expect(pictures).to_have_count(2, timeout=30_000)
    sizes = pictures.evaluate_all(
        "all => Promise.all(all.map(async p => (await p.decode(), [p.naturalWidth, p.naturalHeight])))"
    )
    assert sizes == [[64, 64], [720, 900]]
    swap = page.locator("#operations-swap-swap_swap_post")
    swap.get_by_role("button", name="Add string item").click()
    swap.locator(".parameters input[type=text]").first.fill("echo")
    swap.locator("input[type=file]").set_input_files(ROOT / "examples" / "a.jpg")
    swap.get_by_role("button", name="Execute").click()
    answer = swap.locator(".live-responses-table img")
    playwright.expect(answer).to_have_count(1, timeout=30_000)
    assert answer.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") == 64
