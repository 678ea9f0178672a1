"""Every operation of the OpenAPI, with what it allows and with what it does not: only documented answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.server import HOST, Server, serving
from tests.torture.sizes import Tally, sized

hypothesis: Any = pytest.importorskip("hypothesis", reason="hypothesis is in the dev extra")
schemathesis: Any = pytest.importorskip("schemathesis", reason="schemathesis is in the dev extra")

KEY = "a key that nobody guesses"
EXAMPLES = sized(3, 300)
NAMES = ["echo", "negative", "cutout", "nobody"]
MAY_FAIL = {503, 504}
"""Of the 5xx: full, starting, stopping, too late. All of them are documented."""


@pytest.fixture(scope="module")
def server(identity_bundle: Path) -> Iterator[Server]:
    more = {"FACESWAPD_ADMIN_KEY": KEY, "FACESWAPD_LOG_LEVEL": "error"}
    with serving(identity_bundle, "cpu", more=more) as server:
        yield server


@pytest.fixture(scope="module")
def described(server: Server) -> dict[str, Any]:
    """With the names that there are: random ones would all be a 404, and nothing behind it be reached."""
    document: dict[str, Any] = httpx.get(f"http://{HOST}:{server.port}/openapi.json", timeout=30).json()
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in ("identity", "name"):
                    parameter["schema"]["enum"] = NAMES
                if parameter["name"] == "target":
                    parameter["schema"]["items"] = {"type": "string", "enum": NAMES}
    return document


def operations(described: dict[str, Any], mode: str) -> Iterator[tuple[Any, Any]]:
    """Each with a strategy of requests, good or bad ones."""
    schema, modes = schemathesis.openapi.from_dict(described), schemathesis.GenerationMode
    for each in schema.get_all_operations():
        operation = each.ok()
        yield operation, operation.as_strategy(generation_mode=modes(mode))


def complain(operation: Any, answer: Any) -> str | None:
    """What is wrong with an answer, by the operation's own words; `default` is no excuse."""
    documented = operation.definition.raw["responses"]
    status = str(answer.status_code)
    if status not in documented:
        return f"{status} is not documented: {answer.text[:300]}"
    if answer.status_code >= 500 and answer.status_code not in MAY_FAIL:
        return f"{status}: {answer.text[:300]}"
    kinds = list(documented[status].get("content", {}))
    kind = next(iter(answer.headers.get("content-type", [""]))).partition(";")[0]
    return None if not kinds or kind in kinds else f"{status} with {kind}, documented are {kinds}"


def torture(operation: Any, strategy: Any, base_url: str, mode: str, tally: Tally) -> None:
    def ask(case: Any) -> None:
        try:
            answer = case.call(base_url=base_url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
        except (UnicodeError, ValueError):
            return  # what no client can send
        tally.note(f"OpenAPI, {mode}", requests=1, **{f"answers_{answer.status_code}": 1})
        assert (wrong := complain(operation, answer)) is None, f"{wrong}\n{case.as_curl_command()}"

    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        settings(hypothesis.given(case=strategy)(ask))()
    except hypothesis.errors.Unsatisfiable:
        assert mode == "negative", operation.label  # nothing of it can be wrong


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_only_documented_answers(mode: str, server: Server, described: dict[str, Any], tally: Tally) -> None:
    base_url = f"http://{HOST}:{server.port}"
    for operation, strategy in operations(described, mode):
        torture(operation, strategy, base_url, mode, tally)
    assert httpx.get(f"{base_url}/health/live", timeout=30).status_code == 200
    assert httpx.get(f"{base_url}/health", timeout=30).json()["photos"] == 0
