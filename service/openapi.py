"""What OpenAPI cannot guess: photo bodies, picture answers, headers, the Problem schema."""

from __future__ import annotations

import json
import threading
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from faceswap.images import DigitalSource, ImageFormat
from service.doors import needed
from service.errors import (
    HandlerTimeoutError,
    KeyMissingError,
    KeyScopeError,
    KeyWrongError,
    RateLimitError,
)
from service.forms import FIELD
from service.problems import responses
from service.schemas import Problem, SwapResults
from service.v2_errors import is_v2
from service.v2_schemas import InferRequest

_BINARY = {"type": "string", "format": "binary"}
_RAW_TYPES = [*(format.media_type for format in ImageFormat), "application/octet-stream"]

PHOTO_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One photo, JPEG, PNG or WebP: as a form file or as the body itself.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {**_BINARY, "description": "The photo."}},
                }
            },
            **{kind: {"schema": _BINARY} for kind in _RAW_TYPES},
        },
    }
}


PHOTOS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Photos, JPEG, PNG or WebP: form files of one name, or one photo as the body itself.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {"type": "array", "items": _BINARY, "description": "The photos."},
                    },
                }
            },
            **{kind: {"schema": _BINARY} for kind in _RAW_TYPES},
        },
    }
}


def _header(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}}


REQUEST_ID_HEADER = {
    "X-Request-ID": _header("The caller's own id if sane, else a new one; the log has the same.")
}

SWAP_HEADERS = REQUEST_ID_HEADER | {
    "Server-Timing": _header(
        "Milliseconds for read, detect, load, queue, encode, decode, paste, write and sign."
    ),
    "X-Digital-Source-Type": _header(
        "IPTC's word for how the picture came to be: it is synthetic.", enum=[s.value for s in DigitalSource]
    ),
    "X-Face-Box": _header(
        "The face that was swapped: left, top, right, bottom as shares of the upright photo's width and "
        "height. Not with crop=none."
    ),
    "X-Face-Score": _header("The detector's confidence, 0 to 1. Not with crop=none."),
}


_EXAMPLES = {
    ImageFormat.PNG: ("output=face: 64x64 pixels", "/static/docs/face.png"),
    ImageFormat.JPEG: ("output=photo&format=jpeg", "/static/docs/photo.jpg"),
}
"""Answers of the demo bundle's `will` for examples/b.jpg, written by `python -m examples.answers`."""
_SHOWN = "\n\n".join(f"`{what}`\n\n![A swapped render, synthetic]({url})" for what, url in _EXAMPLES.values())


def picture_answer(
    description: str, formats: list[ImageFormat], headers: dict[str, Any]
) -> dict[int | str, dict[str, Any]]:
    """`responses` for a route that answers a picture."""
    content: dict[str, Any] = {format.media_type: {"schema": _BINARY} for format in formats}
    return {200: {"description": description, "content": content, "headers": headers}}


_RESULTS = {"schema": {"$ref": "#/components/schemas/SwapResults"}}
_RESULTS_CONTENT: dict[str, Any] = {
    "application/json": _RESULTS,
    "application/x-ndjson": {
        "schema": {"$ref": "#/components/schemas/SwapResult"},
    },
    "application/zip": {"schema": _BINARY},
}
_FORMS = (
    "application/json, or by the Accept header application/x-ndjson (a line for each result when it is done, "
    'then {"summary": ...}) or application/zip (the pictures, and results.json without them)'
)


def results_answer(description: str) -> dict[int | str, dict[str, Any]]:
    """`responses` for a route that answers several results."""
    described = f"{description} {_FORMS}."
    return {200: {"description": described, "content": _RESULTS_CONTENT, "headers": REQUEST_ID_HEADER}}


def swap_answer(description: str) -> dict[int | str, dict[str, Any]]:
    """`responses` for a route that answers a picture, or several results."""
    answer = picture_answer(f"{description} {_FORMS}.\n\n{_SHOWN}", list(ImageFormat), SWAP_HEADERS)
    for format, (what, url) in _EXAMPLES.items():
        example = {"summary": what, "externalValue": url}
        answer[200]["content"][format.media_type]["examples"] = {"will": example}
    answer[200]["content"] |= _RESULTS_CONTENT
    return answer


KEYS: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the service has keys."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
}
_DOORS = (KeyMissingError, KeyWrongError, KeyScopeError, RateLimitError, HandlerTimeoutError)


def _add_doors(schema: dict[str, Any]) -> None:
    """What service/doors.py asks and answers before any route: keys, 401, 403, 429, 504."""
    schema.setdefault("components", {})["securitySchemes"] = KEYS
    closed = [(path, item) for path, item in schema["paths"].items() if needed(path) is not None]
    for path, operation in ((path, operation) for path, item in closed for operation in item.values()):
        # the empty one: a service without keys asks for none
        operation["security"] = [*({name: []} for name in KEYS), {}]
        for status, answer in responses(*_DOORS).items():
            described = operation["responses"].get(str(status))
            if is_v2(path):
                operation["responses"][str(status)] = _v2_answer(described, answer)
            else:
                _merge(operation["responses"].setdefault(str(status), answer), answer)


def _merge(answer: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds the problems of `more` to an answer of the same status."""
    ((kind, content),) = more["content"].items()
    known = answer["content"][kind].get("examples", {})
    fresh = {slug: example for slug, example in content.get("examples", {}).items() if slug not in known}
    if fresh:
        answer["content"][kind]["examples"] = known | fresh
        told = [f"`/problems/{slug}`: {example['summary']}" for slug, example in fresh.items()]
        answer["description"] = "; ".join([answer["description"], *told])


def _v2_answer(answer: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
    """The same below /v2, where problems leave as V2Error (service/v2_errors.py)."""
    told = [more["description"]] if answer is None else [answer["description"], more["description"]]
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/V2Error"}}}
    return more | {"description": "; ".join(told), "content": content}


class DescribedApp(FastAPI):
    """FastAPI that also describes the doors, and what routes refer to and none takes or returns by itself.

    The description is made and written once, in a thread: that takes 65 ms, and written anew for each
    request it would be a millisecond of everybody's event loop.
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(**named, openapi_url=None)
        self._written: dict[str, bytes] = {}
        self._writing = threading.Lock()
        self.add_route("/openapi.json", self._described, include_in_schema=False)

    def _described(self, request: Request) -> Response:
        """Not `async`."""
        root = request.scope.get("root_path", "").rstrip("/")
        with self._writing:
            if root not in self._written:
                servers = {"servers": [{"url": root}]} if root else {}
                described = self.openapi() | servers
                self._written[root] = json.dumps(described, ensure_ascii=False).encode()
        return Response(self._written[root], media_type="application/json")

    def openapi(self) -> dict[str, Any]:
        fresh = self.openapi_schema is None
        schema = super().openapi()
        if fresh:
            template = "#/components/schemas/{model}"
            models: list[tuple[type[BaseModel], Literal["serialization", "validation"]]] = [
                (Problem, "serialization"),
                (SwapResults, "serialization"),
                (InferRequest, "validation"),
            ]
            _, definitions = models_json_schema(models, ref_template=template)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            _add_doors(schema)
        return schema
