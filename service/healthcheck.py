"""python -m service.healthcheck [URL]: exit 0 if the service is ready, else 1. Standard library only."""

from __future__ import annotations

import http.client
import os
import sys
from contextlib import closing
from urllib.parse import urlsplit

TIMEOUT_S = 3.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def url_from_environment() -> str:
    host = os.environ.get("FACESWAPD_HOST", "127.0.0.1")
    host = EVERYWHERE.get(host, host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{os.environ.get('FACESWAPD_PORT', '8000')}/health/ready"


def is_ready(url: str) -> bool:
    """Straight to the service: http.client knows of no proxies."""
    try:
        parts = urlsplit(url)
        with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)) as line:
            line.request("GET", parts.path or "/health/ready")
            return line.getresponse().status == 200
    except (OSError, ValueError, http.client.HTTPException):
        return False


def main(arguments: list[str]) -> int:
    return 0 if is_ready(arguments[0] if arguments else url_from_environment()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
