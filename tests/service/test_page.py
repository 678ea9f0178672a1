"""The page at / over HTTP: its policy, its files, their types."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.fakes import make_app, serving

pytestmark = pytest.mark.anyio

STATIC = Path(__file__).parents[2] / "service" / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


async def test_only_the_page_itself_may_do_anything_and_only_it_may_use_the_camera() -> None:
    async with serving(make_app()) as client:
        page = await client.get("/")
    rules = dict(rule.strip().split(" ", 1) for rule in page.headers["content-security-policy"].split(";"))
    assert rules["default-src"] == "'none'"
    assert {rules[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert rules["img-src"] == "'self' blob:"
    assert "camera=(self)" in page.headers["permissions-policy"]


@pytest.mark.parametrize(
    "file", sorted(path for path in STATIC.iterdir() if path.is_file()), ids=lambda path: path.name
)
async def test_every_file_has_its_type_and_is_asked_for_anew(file: Path) -> None:
    """A module of the wrong type is not run: answers say nosniff."""
    async with serving(make_app()) as client:
        answer = await client.get(f"/static/{file.name}")
        again = await client.get(f"/static/{file.name}", headers={"If-None-Match": answer.headers["etag"]})
    assert answer.headers["content-type"].startswith(TYPES[file.suffix])
    assert answer.headers["cache-control"] == again.headers["cache-control"] == "no-cache"
    assert (answer.status_code, again.status_code) == (200, 304)
