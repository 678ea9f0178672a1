"""OpenAPI tells everything: parameters, bodies, pictures, headers, errors."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import TABLE
from service.routes import SWAP_ERRORS
from service.schemas import MAX_TARGETS, SwapQuery
from tests.service.fakes import make_app, serving

pytestmark = pytest.mark.anyio

PROBLEM = {"$ref": "#/components/schemas/Problem"}
V2_ERROR = {"$ref": "#/components/schemas/V2Error"}
BINARY = {"type": "string", "format": "binary"}
RESULTS = {"application/json", "application/x-ndjson", "application/zip"}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return make_app().openapi()


def operations(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, operation) for path, item in schema["paths"].items() for operation in item.values()]


def test_every_parameter_is_described(schema: dict[str, Any]) -> None:
    parameters = schema["paths"]["/swap"]["post"]["parameters"]
    assert {p["name"] for p in parameters} == set(SwapQuery.model_fields)
    assert all(p.get("description") for p in parameters)
    assert [p["name"] for p in parameters if p["required"]] == ["target"]
    defaults = {p["name"]: p["schema"].get("default") for p in parameters}
    assert defaults == {"target": None, "crop": "auto", "face": 0, "output": "face", "format": "png"}


def test_every_body_and_picture_is_binary(schema: dict[str, Any]) -> None:
    swap = schema["paths"]["/swap"]["post"]
    body = swap["requestBody"]["content"]
    form = body.pop("multipart/form-data")["schema"]
    assert form["required"] == ["image"]
    assert form["properties"]["image"]["format"] == "binary"
    assert set(body) == {"image/png", "image/jpeg", "image/webp", "application/octet-stream"}
    assert all(content["schema"] == BINARY for content in body.values())
    answer = swap["responses"]["200"]
    pictures = {"image/png", "image/jpeg", "image/webp"}
    assert set(answer["content"]) == pictures | RESULTS
    assert all(answer["content"][kind]["schema"] == BINARY for kind in pictures)
    assert {"X-Request-ID", "Server-Timing", "X-Digital-Source-Type"} <= set(answer["headers"])
    preview = schema["paths"]["/identities/{name}/preview"]["get"]["responses"]["200"]
    assert preview["content"] == {"image/png": {"schema": BINARY}}


def test_a_batch_takes_many_files_and_answers_results(schema: dict[str, Any]) -> None:
    batch = schema["paths"]["/swap/batch"]["post"]
    form = batch["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["image"]["items"] == BINARY
    content = batch["responses"]["200"]["content"]
    assert set(content) == RESULTS
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/SwapResults"}
    assert {p["name"] for p in batch["parameters"]} == set(SwapQuery.model_fields)
    target = next(p for p in batch["parameters"] if p["name"] == "target")
    assert (target["required"], target["schema"]["type"], target["schema"]["maxItems"]) == (
        True, "array", MAX_TARGETS,
    )  # fmt: skip


def test_every_error_is_a_problem(schema: dict[str, Any]) -> None:
    for path, operation in operations(schema):
        errors = {status: r for status, r in operation["responses"].items() if status != "200"}
        assert {"500", "default"} <= set(errors), path
        v2 = path == "/v2" or path.startswith("/v2/")
        kind, form = ("application/json", V2_ERROR) if v2 else ("application/problem+json", PROBLEM)
        for response in errors.values():
            assert list(response["content"]) == [kind]
            assert response["content"][kind]["schema"] == form
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    assert {"Problem", "ParameterError"} <= set(schema["components"]["schemas"])


def test_every_error_of_a_swap_is_named_with_an_example(schema: dict[str, Any]) -> None:
    responses = schema["paths"]["/swap"]["post"]["responses"]
    for error in SWAP_ERRORS:
        kind = TABLE[error]
        response = responses[str(kind.status)]
        assert kind.type in response["description"]
        examples = response["content"]["application/problem+json"]["examples"]
        assert examples[kind.slug]["value"]["type"] == kind.type
        assert kind.retry_after_s is None or "Retry-After" in response["headers"]


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    def references(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(value) for value in node.values()))
        return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()

    found = references(schema)
    assert found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in schema["components"]["schemas"]


async def test_it_is_served_and_the_same_twice() -> None:
    async with serving(make_app()) as client:
        first, second = await client.get("/openapi.json"), await client.get("/openapi.json")
    assert first.json() == second.json()
    assert "/health/ready" in first.json()["paths"]


def test_what_needs_a_key_says_so_and_how_it_is_refused(schema: dict[str, Any]) -> None:
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "header"}
    swap, live = schema["paths"]["/swap"]["post"], schema["paths"]["/health/live"]["get"]
    assert swap["security"] == [{"bearer": []}, {"header": []}, {}]
    assert "security" not in live and "429" not in live["responses"]
    for status, slug in (
        ("401", "key-missing"),
        ("403", "key-scope"),
        ("429", "rate-limit"),
        ("504", "deadline"),
    ):
        answer = swap["responses"][status]
        assert f"/problems/{slug}" in answer["description"]
        assert slug in answer["content"]["application/problem+json"]["examples"]
    assert "Retry-After" in swap["responses"]["429"]["headers"]
    assert "handler-timeout" in swap["responses"]["504"]["content"]["application/problem+json"]["examples"]
    reload = schema["paths"]["/admin/reload"]["post"]["responses"]["401"]
    assert {"admin-key", "key-missing"} <= set(reload["content"]["application/problem+json"]["examples"])
