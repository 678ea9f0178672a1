"""The addresses that swap and that tell what can be swapped in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from faceswap import errors as library
from faceswap.bundle import IdentityEntry
from faceswap.images import ImageFormat
from service import errors
from service.openapi import PHOTO_BODY, REQUEST_ID_HEADER, SWAP_HEADERS, picture_answer
from service.parts import Parts, TheParts
from service.problems import responses
from service.schemas import Identity, IdentityList, IdentitySummary, ProblemKind, SwapQuery
from service.swapping import Answer
from service.uploads import announced_bytes, read_photo, unless_gone

router = APIRouter()

SWAP_ERRORS = (
    errors.BadMultipartError,
    library.TruncatedImageError,
    library.UnknownIdentityError,
    errors.BodyTimeoutError,
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
    errors.QueueFullError,
    errors.StartingError,
    errors.DrainingError,
    errors.DeadlineError,
)


@router.post(
    "/swap",
    tags=["swap"],
    summary="Swap the face of a photo",
    response_class=Response,
    responses=picture_answer("The swapped face or photo.", list(ImageFormat), SWAP_HEADERS)
    | responses(*SWAP_ERRORS),
    openapi_extra=PHOTO_BODY,
)
async def swap(request: Request, parts: TheParts, query: Annotated[SwapQuery, Query()]) -> Response:
    """The face of `target` with the pose, light and expression of the photo's face.

    The picture says that it is synthetic, in its XMP metadata and in X-Digital-Source-Type.
    """
    parts.lifecycle.require_ready()
    parts.swapper.check(query.target)  # and again, by the bundle of the day, when the body is there
    settings = parts.settings
    length = announced_bytes(request, settings.max_body_bytes)
    with parts.admission.place(length):
        photo = await read_photo(request, settings.max_body_bytes, settings.body_timeout_s)
        answer = await unless_gone(request, parts.pipeline.swap(photo, query))
    return _picture(answer, query)


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
    entry = parts.swapper.bundle.identity(name)
    if entry.preview is None:
        raise errors.NoPreviewError(name)
    data = parts.swapper.bundle.read(entry.preview)
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


def _picture(answer: Answer, query: SwapQuery) -> Response:
    headers = {
        "Server-Timing": answer.clock.server_timing(),
        "X-Digital-Source-Type": answer.source.value,
        "Cache-Control": "no-store",
        "Content-Disposition": f'inline; filename="{query.target}.{answer.format.value}"',
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
    )
