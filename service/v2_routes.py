"""/v2: the Open Inference Protocol, so that clients of KServe and Triton need nothing of ours.

An identity is a model. Faces take the same places, batches and deadline as those of /swap.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from faceswap import errors as library
from faceswap.bundle import IdentityEntry
from faceswap.faces import Pixels, Swapped
from faceswap.images import DigitalSource
from service import errors, health
from service.encodings import accepted, is_packed, packed, unpacked
from service.openapi import REQUEST_ID_HEADER
from service.parts import Parts, TheParts
from service.problems import responses
from service.rates import meter_of
from service.swapping import SwapPipeline
from service.telemetry import Clock
from service.uploads import announced_bytes, read_body, unless_gone
from service.v2_schemas import (
    CROPS,
    FACES,
    MASKS,
    SHAPES,
    InferResponse,
    ModelFacts,
    ModelReady,
    ServerFacts,
    ServerLive,
    ServerReady,
    TensorFacts,
    V2Error,
)
from service.v2_tensors import Asked, read_request, write_response

JSON_BYTES = "Inference-Header-Content-Length"
_VERSION_DIGITS = 8

INFER_ERRORS = (
    errors.BadTensorError,
    errors.BadEncodingError,
    library.UnknownIdentityError,
    errors.UnknownVersionError,
    errors.BodyTimeoutError,
    errors.BodyTooLargeError,
    errors.UnsupportedEncodingError,
    errors.InvalidParameterError,
    library.BundleError,
    library.DeviceError,
    errors.QueueFullError,
    errors.StartingError,
    errors.DrainingError,
    errors.DeadlineError,
)
INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"JSON; with {JSON_BYTES} so many bytes of JSON, and the tensor's own behind them.",
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def _failures(*kinds: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route below /v2: see service/v2_errors.py."""
    described = responses(*kinds)
    return {
        s: {k: v for k, v in d.items() if k != "content"} | {"model": V2Error} for s, d in described.items()
    }


_INFER_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"The swapped faces; with {JSON_BYTES} as bytes behind so many bytes of JSON.",
        "model": InferResponse,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "headers": REQUEST_ID_HEADER,
    }
}


async def _asked_version(request: Request) -> str | None:
    """Each address of a model exists with and without a version."""
    return request.path_params.get("version")


Version = Annotated[str | None, Depends(_asked_version)]

router = APIRouter(prefix="/v2", tags=["open inference protocol"])


@router.get("", summary="What this server is", responses=_failures())
async def server(parts: TheParts) -> ServerFacts:
    return ServerFacts(version=parts.version)


@router.get("/health/live", summary="Is the process alive", responses=_failures(errors.NotLiveError))
async def live(parts: TheParts) -> ServerLive:
    await health.live(parts)
    return ServerLive()


@router.get(
    "/health/ready",
    summary="May requests come",
    responses=_failures(errors.StartingError, errors.DrainingError, errors.NotLiveError),
)
async def ready(parts: TheParts) -> ServerReady:
    await health.ready(parts)
    return ServerReady()


_UNKNOWN = (library.UnknownIdentityError, errors.UnknownVersionError)


@router.get("/models/{identity}", summary="The tensors of an identity", responses=_failures(*_UNKNOWN))
@router.get("/models/{identity}/versions/{version}", include_in_schema=False)
async def model(parts: TheParts, identity: str, version: Version) -> ModelFacts:
    entry = _entry(parts.pipeline, identity, version)
    inputs, outputs = [TensorFacts(name=CROPS, shape=SHAPES[CROPS])], [FACES, MASKS]
    return ModelFacts(
        name=identity,
        versions=[_version(entry)],
        inputs=inputs,
        outputs=[TensorFacts(name=name, shape=SHAPES[name]) for name in outputs],
    )


@router.get(
    "/models/{identity}/ready",
    summary="May this identity be asked for",
    responses=_failures(*_UNKNOWN, errors.StartingError, errors.DrainingError, errors.NotLiveError),
)
@router.get("/models/{identity}/versions/{version}/ready", include_in_schema=False)
async def model_ready(parts: TheParts, identity: str, version: Version) -> ModelReady:
    """Decoders that are not in memory are loaded when they are asked for, so these are ready too."""
    _entry(parts.pipeline, identity, version)
    await health.ready(parts)
    return ModelReady(name=identity)


@router.post(
    "/models/{identity}/infer",
    summary="Swap ready crops, as tensors",
    response_class=Response,
    responses=_INFER_ANSWER | _failures(*INFER_ERRORS),
    openapi_extra=INFER_BODY,
)
@router.post("/models/{identity}/versions/{version}/infer", include_in_schema=False)
async def infer(
    request: Request,
    parts: TheParts,
    identity: str,
    version: Version,
    inference_header_content_length: Annotated[int | None, Header(ge=0)] = None,
) -> Response:
    """Aligned UINT8 faces (N, 64, 64, 3) in, faces of `identity` and their masks out.

    As JSON or as bytes, and packed by gzip or deflate where the headers say so.
    """
    parts.lifecycle.require_ready()
    _entry(parts.pipeline, identity, version)
    limit = parts.settings.max_body_bytes
    encoding = request.headers.get("content-encoding", "")
    packed_body = is_packed(encoding)
    length = announced_bytes(request, limit)
    with ExitStack() as held:
        place = held.enter_context(parts.admission.place(limit if packed_body else length))
        patience = parts.settings.body_timeout_s
        body = await place.filled(read_body(request, limit, patience, place.heard))
        clock = Clock()
        asked = await parts.pool.run(
            clock, _read, body, encoding, inference_header_content_length, limit, parts.settings.queue_images
        )
        del body
        if (more := len(asked.crops) - 1) > 0:
            meter_of(request.scope).add(more)
            held.enter_context(parts.admission.place(0, more))
        pipeline = parts.pipeline
        entry = _entry(pipeline, identity, version)
        clocks = [Clock() for _ in asked.crops]
        work = unless_gone(request, _faces(pipeline, asked.crops, identity, clocks, _seconds(parts)))
        faces = await parts.metrics.watched([identity] * len(clocks), work)
        for each in clocks:
            parts.metrics.swapped(identity, each)
        return await _answer(request, parts, asked, faces, entry)


def _entry(pipeline: SwapPipeline, identity: str, version: str | None) -> IdentityEntry:
    entry = pipeline.swapper.bundle.identity(identity)
    if version is not None and version != _version(entry):
        raise errors.UnknownVersionError(identity, _version(entry))
    return entry


def _version(entry: IdentityEntry) -> str:
    return entry.decoder.sha256[:_VERSION_DIGITS]


def _seconds(parts: Parts) -> float:
    return parts.settings.deadline_ms / 1000


def _read(body: bytes, encoding: str, json_bytes: int | None, limit: int, most: int) -> Asked:
    return read_request(unpacked(body, encoding, limit) if is_packed(encoding) else body, json_bytes, most)


async def _faces(
    pipeline: SwapPipeline, crops: Pixels, identity: str, clocks: Sequence[Clock], seconds: float
) -> list[Swapped]:
    """In the order of `crops`; if one fails, all do, and the rest is dropped."""
    deadline = time.monotonic() + seconds
    with pipeline.swapper.hold(identity):
        swaps = [
            asyncio.create_task(pipeline.decoded(crop, identity, deadline, clock))
            for crop, clock in zip(crops, clocks, strict=True)
        ]
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.gather(*swaps)
        except TimeoutError:
            raise errors.DeadlineError from None
        finally:
            for swap in swaps:
                swap.cancel()
            await asyncio.gather(*swaps, return_exceptions=True)


async def _answer(
    request: Request, parts: Parts, asked: Asked, faces: list[Swapped], entry: IdentityEntry
) -> Response:
    source = DigitalSource.TRAINED.value
    headers = {"X-Digital-Source-Type": source, "Cache-Control": "no-store", "Vary": "Accept-Encoding"}

    def write() -> bytes:
        data, json_bytes = write_response(asked, faces, entry.name, _version(entry), source)
        if json_bytes is not None:
            headers[JSON_BYTES] = str(json_bytes)
        if encoding := accepted(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = encoding
            data = packed(data, encoding)
        return data

    data = await parts.pool.run(Clock(), write)
    kind = "application/octet-stream" if JSON_BYTES in headers else "application/json"
    return Response(data, media_type=kind, headers=headers)
