"""/docs: Swagger UI from this host alone, and none where the package is missing."""

from __future__ import annotations

import re

import httpx
import pytest
from fastapi import FastAPI

from service import docs_page
from tests.service.fakes import make_app, opened, serving

pytest.importorskip("fastapi_swagger", reason="fastapi-swagger is in the docs extra")
pytestmark = pytest.mark.anyio


async def test_the_page_and_all_that_it_names_come_from_here() -> None:
    async with serving(make_app()) as client:
        page = await client.get("/docs")
        assert page.status_code == 200 and page.headers["content-security-policy"] == docs_page.POLICY
        named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert "/docs/swagger-ui-bundle.js" in named and all(each.startswith("/") for each in named)
        for each in named:
            assert (await client.get(each)).status_code == 200, each
    assert "<script>" not in page.text and "'unsafe-inline'" not in docs_page.POLICY.split(";")[1]


async def test_without_the_package_it_is_not_there_and_nothing_else_changes() -> None:
    app = FastAPI(docs_url=None)
    docs_page.mount(app, None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        assert (await client.get("/docs")).status_code == 404


async def test_openapi_names_pictures_that_are_there() -> None:
    async with serving(make_app()) as client:
        schema = (await client.get("/openapi.json")).json()
        content = schema["paths"]["/swap"]["post"]["responses"]["200"]["content"]
        for kind in ("image/png", "image/jpeg"):
            (example,) = content[kind]["examples"].values()
            answer = await client.get(example["externalValue"])
            assert answer.headers["content-type"] == kind
            colours = opened(answer.content).convert("RGB").getcolors(2**24) or []
            assert len(colours) > 500, "a picture, not a blank"
            assert b"trainedAlgorithmicMedia" in answer.content.replace(b"compositeWithT", b"t")
