"""The page at /docs: Swagger UI over /openapi.json, with its files from a package instead of a CDN."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI writes style attributes; scripts come from here alone."""
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>faceswapd: the API</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="stylesheet" href="/static/docs/docs.css">
<script src="/docs/swagger-ui-bundle.js" defer></script>
<script src="/static/docs/start.js" defer></script>
</head>
<body><div id="docs"></div></body>
</html>
"""


def mount(app: FastAPI, folder: Path | None) -> None:
    """The page with Swagger UI's files of `folder`; without one /docs is not found, as any address."""
    if folder is None:
        return

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_HTML, headers=HEADERS)

    @app.get("/docs/swagger-ui.css", include_in_schema=False)
    async def style() -> FileResponse:
        return FileResponse(folder / "swagger-ui.css", headers=HEADERS)

    @app.get("/docs/swagger-ui-bundle.js", include_in_schema=False)
    async def script() -> FileResponse:
        return FileResponse(folder / "swagger-ui-bundle.js", headers=HEADERS)


def swagger_ui() -> Path | None:
    """Where the package of the extra `docs` has the files; its code, which changes apps, is not imported."""
    found = find_spec("fastapi_swagger")
    return Path(found.origin).parent / "resources" if found and found.origin else None
