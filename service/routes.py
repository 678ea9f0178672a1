"""The addresses that swap and that tell what can be swapped in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from faceswap import errors as library
from faceswap.bundle import IdentityEntry
from faceswap.images import ImageFormat
from service import errors
from service.openapi import (
    PHOTO_BODY,
    PHOTOS_BODY,
    REQUEST_ID_HEADER,
    picture_answer,
    results_answer,
    swap_answer,
)
from service.parts import Parts, TheParts
from service.problems import request_id_of, responses
from service.rates import meter_of
from service.results import Report, ResultForm, ResultsResponse
from service.schemas import Identity, IdentityList, IdentitySummary, ProblemKind, SwapQuery
from service.swapping import Answer, Result, SwapPipeline
from service.uploads import announced_bytes, read_photo, read_photos, unless_gone

router = APIRouter()

SWAP_ERRORS = (
    errors.BadMultipartError,
    library.TruncatedImageError,
    library.UnknownIdentityError,
    errors.BodyTimeoutError,
    errors.BodyMadeRoomError,
    errors.BodyTooLargeError,
    library.ImageTooLargeError,
    errors.UnsupportedBodyError,
    library.NotAnImageError,
    errors.NoImageError,
    errors.InvalidParameterError,
    library.WrongCropSizeError,
    library.NoFaceError,
    library.NoSuchFaceError,
    library.BundleError,
    library.DeviceError,
    errors.SigningError,
    errors.QueueFullError,
    errors.StartingError,
    errors.DrainingError,
    errors.DeadlineError,
)
BATCH_ERRORS = (
    errors.BadMultipartError,
    library.UnknownIdentityError,
    errors.BodyTimeoutError,
    errors.BodyMadeRoomError,
    errors.BodyTooLargeError,
    errors.UnsupportedBodyError,
    errors.NoImageError,
    errors.InvalidParameterError,
    errors.QueueFullError,
    errors.StartingError,
    errors.DrainingError,
)
"""What concerns the whole request; the rest is told of each photo."""


@router.post(
    "/swap",
    tags=["swap"],
    summary="Swap the face of a photo",
    response_class=Response,
    responses=swap_answer("The swapped face or photo; with several targets a result for each.")
    | responses(*SWAP_ERRORS),
    openapi_extra=PHOTO_BODY,
)
async def swap(request: Request, parts: TheParts, query: Annotated[SwapQuery, Query()]) -> Response:
    """The face of `target` with the pose, light and expression of the photo's face.

    The picture says that it is synthetic, in its XMP metadata and in X-Digital-Source-Type. One target
    is answered with the picture, several with a result for each: as JSON, or what Accept names.
    """
    _may_come(parts, query)
    meter_of(request.scope).add(len(query.target) - 1)
    settings = parts.settings
    length = announced_bytes(request, settings.max_body_bytes)
    async with AsyncExitStack() as held:
        place = held.enter_context(parts.admission.place(length, len(query.target)))
        limit, patience = settings.max_body_bytes, settings.body_timeout_s
        photo = await place.filled(read_photo(request, limit, patience, place.heard))
        pipeline = _pipeline(parts, query)
        if len(query.target) == 1:
            work = unless_gone(request, pipeline.swap(photo, query))
            answer = await parts.metrics.watched(query.target, work)
            parts.metrics.answered(answer)
            return _picture(answer)
        report = _report(request, parts)
        results = await held.enter_async_context(aclosing(pipeline.swap_each(photo, query)))
        # what is wrong with the photo is raised here
        first = await parts.metrics.watched(query.target, unless_gone(request, anext(results)))
        return _several(parts, report, _with_first(first, results), held.pop_all())


@router.post(
    "/swap/batch",
    tags=["swap"],
    summary="Swap the faces of many photos",
    response_class=Response,
    responses=results_answer("A result for every photo and target.") | responses(*BATCH_ERRORS),
    openapi_extra=PHOTOS_BODY,
)
async def swap_batch(request: Request, parts: TheParts, query: Annotated[SwapQuery, Query()]) -> Response:
    """Every photo with the face of every target. What fails is told in its own result.

    Results come in the order in which they are done; with Accept: application/x-ndjson each as soon as
    it is, in a line of its own.
    """
    _may_come(parts, query)
    settings = parts.settings
    length = announced_bytes(request, settings.batch_bytes)
    patience = settings.body_timeout_s * max(length / settings.max_body_bytes, 1)
    async with AsyncExitStack() as held:
        place = held.enter_context(parts.admission.place(length))
        body = read_photos(request, settings.batch_bytes, patience, place.heard, settings.batch_photos)
        photos = await place.filled(body)
        meter_of(request.scope).add(len(photos) * len(query.target) - 1)
        report = _report(request, parts)
        swaps = parts.batches.swap(_pipeline(parts, query), photos, query)
        results = await held.enter_async_context(aclosing(swaps))
        return _several(parts, report, results, held.pop_all())


@router.get("/identities", tags=["identities"], summary="Who can be swapped in", responses=responses())
async def list_identities(parts: TheParts) -> IdentityList:
    entries = parts.swapper.manifest.identities
    return IdentityList(identities=[_summary(entry) for entry in entries])


@router.get(
    "/identities/{name}",
    tags=["identities"],
    summary="What the bundle tells about an identity",
    responses=responses(library.UnknownIdentityError),
)
async def get_identity(name: str, parts: TheParts) -> Identity:
    return _identity(parts, parts.swapper.bundle.identity(name))


@router.get(
    "/identities/{name}/preview",
    tags=["identities"],
    summary="A picture of the identity",
    response_class=Response,
    responses=picture_answer("The preview picture.", [ImageFormat.PNG], REQUEST_ID_HEADER)
    | responses(library.UnknownIdentityError, errors.NoPreviewError, library.BundleError),
)
def get_preview(name: str, parts: TheParts) -> Response:
    """Not `async`: it reads a file, so it belongs on a thread."""
    bundle = parts.swapper.bundle
    entry = bundle.identity(name)
    if entry.preview is None:
        raise errors.NoPreviewError(name)
    data = bundle.read(entry.preview)
    return Response(data, media_type="image/png", headers={"Cache-Control": "max-age=300"})


@router.get("/problems", tags=["problems"], summary="Every error there is", responses=responses())
async def list_problems() -> list[ProblemKind]:
    return [ProblemKind(type=k.type, title=k.title, status=k.status) for k in errors.TABLE.values()]


@router.get(
    "/problems/{slug}",
    tags=["problems"],
    summary="What an error's type means",
    responses=responses(errors.NotFoundError),
)
async def get_problem(slug: str) -> ProblemKind:
    """The `type` of a problem is this address."""
    for kind in await list_problems():
        if kind.type == f"/problems/{slug}":
            return kind
    raise errors.NotFoundError


def _may_come(parts: Parts, query: SwapQuery) -> None:
    parts.lifecycle.require_ready()
    _pipeline(parts, query)


def _pipeline(parts: Parts, query: SwapQuery) -> SwapPipeline:
    """Of the bundle that is served now: after a body has come it may be another than before."""
    pipeline = parts.pipeline
    for target in query.target:
        pipeline.swapper.check(target)
    return pipeline


def _report(request: Request, parts: Parts) -> Report:
    form = ResultForm.wanted(request.headers.get("accept", ""))
    return Report(form, request_id_of(request), parts.pool, parts.metrics)


def _several(
    parts: Parts, report: Report, results: AsyncIterator[Result], held: AsyncExitStack
) -> ResultsResponse:
    return ResultsResponse(report.chunks(results), report.form, held, parts.settings.body_timeout_s)


async def _with_first(first: Result, rest: AsyncIterator[Result]) -> AsyncIterator[Result]:
    yield first
    async for result in rest:
        yield result


def _picture(answer: Answer) -> Response:
    headers = {
        "Server-Timing": answer.clock.server_timing(),
        "X-Digital-Source-Type": answer.source.value,
        "Cache-Control": "no-store",
        "Content-Disposition": f'inline; filename="{answer.target}.{answer.format.value}"',
    }
    if answer.face is not None:
        headers["X-Face-Box"] = ",".join(f"{share:.4f}" for share in answer.face.box)
        headers["X-Face-Score"] = f"{answer.face.score:.2f}"
    return Response(answer.data, media_type=answer.format.media_type, headers=headers)


def _summary(entry: IdentityEntry) -> IdentitySummary:
    url = f"/identities/{entry.name}"
    return IdentitySummary(
        name=entry.name,
        licence=entry.licence,
        consent=entry.consent,
        url=url,
        preview=f"{url}/preview" if entry.preview else None,
    )


def _identity(parts: Parts, entry: IdentityEntry) -> Identity:
    return Identity(
        **dict(_summary(entry)),
        training=entry.training,
        metrics=entry.metrics,
        parity=entry.parity,
        crop_size=parts.swapper.manifest.crop.size,
        decoder_bytes=entry.decoder.bytes,
        decoder_sha256=entry.decoder.sha256,
        encoder_sha256=entry.encoder_sha256,
        precision=parts.swapper.precision_of(entry.name),
        variants={precision: variant.gate for precision, variant in entry.variants.items()},
    )
