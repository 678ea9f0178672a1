"""What both clients tell httpx."""

from __future__ import annotations

from typing import Any

import httpx

from faceswap_client.errors import ProblemError, TimedOutError, UnreachableError

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 5.0
NOT_READY = (ProblemError, UnreachableError, TimedOutError)


def http_settings(url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    """For httpx.Client and httpx.AsyncClient."""
    return {
        "base_url": url,
        "headers": key_header(api_key),
        "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT_S)),
    }


def key_header(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def is_picture(answer: httpx.Response) -> bool:
    return bool(answer.headers.get("content-type", "").startswith("image/"))
