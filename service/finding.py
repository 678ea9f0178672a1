"""POST /faces: what a swap would find in a photo, before anything is swapped."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
from fastapi import APIRouter, Request, Response

from faceswap import errors as library
from faceswap.faces import Crop, Face, Image
from faceswap.images import read_image
from faceswap.png import write_small_png
from faceswap.swapper import FACE_ONLY_SIDE
from service import errors
from service.library import PhotoSwapper
from service.openapi import PHOTO_BODY
from service.parts import Parts, TheParts
from service.problems import responses
from service.schemas import FoundFace, FoundFaces
from service.settings import Settings
from service.swapping import found
from service.telemetry import Clock
from service.uploads import announced_bytes, read_photo, unless_gone

MOST_FACES = 16
"""Each costs a look of 1 to 15 ms, as each is asked for by its number."""

FACES_ERRORS = (
    errors.BadMultipartError,
    library.TruncatedImageError,
    errors.BodyTimeoutError,
    errors.BodyTooLargeError,
    library.ImageTooLargeError,
    errors.UnsupportedBodyError,
    library.NotAnImageError,
    errors.NoImageError,
    errors.QueueFullError,
    errors.StartingError,
    errors.DrainingError,
    errors.DeadlineError,
)

router = APIRouter()


@router.post(
    "/faces",
    tags=["swap"],
    summary="Find the faces of a photo",
    responses=responses(*FACES_ERRORS),
    openapi_extra=PHOTO_BODY,
)
async def find_faces(request: Request, response: Response, parts: TheParts) -> FoundFaces:
    """Box, landmarks and aligned crop of each face, by the number that `face` of /swap takes.

    A photo without a face has none, which is no error. The crops are cut out of the photo and not
    synthetic; posted with crop=none they save the search.
    """
    parts.lifecycle.require_ready()
    settings = parts.settings
    clock = Clock()
    length = announced_bytes(request, settings.max_body_bytes)
    with parts.admission.place(length) as place:
        limit, patience = settings.max_body_bytes, settings.body_timeout_s
        photo = await place.filled(read_photo(request, limit, patience, place.heard))
        faces = await unless_gone(request, _in_time(parts, photo, clock))
    response.headers["Server-Timing"] = clock.server_timing()
    response.headers["Cache-Control"] = "no-store"
    return faces


async def _in_time(parts: Parts, photo: bytes, clock: Clock) -> FoundFaces:
    try:
        async with asyncio.timeout(parts.settings.deadline_ms / 1000):
            return await parts.pool.run(clock, _find, parts.swapper, photo, parts.settings, clock)
    except TimeoutError:
        raise errors.DeadlineError from None


def _find(swapper: PhotoSwapper, photo: bytes, settings: Settings, clock: Clock) -> FoundFaces:
    with clock.span("read"):
        image = read_image(photo, settings.max_pixels, FACE_ONLY_SIDE, settings.decode_bytes)
    with clock.span("detect"):
        faces = _numbered(swapper, image)
        told = [_told(image, number, face, swapper.align(image, face)) for number, face in faces.items()]
    return FoundFaces(faces=told, milliseconds=clock.milliseconds())


def _numbered(swapper: PhotoSwapper, image: Image) -> dict[int, Face]:
    """The faces by their numbers.

    Asked for one by one, as a swap does it: the more faces are wanted the closer the detector looks, and a
    list of all that it sees close by may be in another order. A face may come under two numbers then;
    the first stays.
    """
    faces: dict[int, Face] = {}
    for number in range(MOST_FACES):
        try:
            face = swapper.find_face(image, number)
        except (library.NoFaceError, library.NoSuchFaceError):
            break
        if not any(_same(face, other) for other in faces.values()):
            faces[number] = face
    return faces


def _same(face: Face, other: Face) -> bool:
    """Two faces whose noses are less than half an eye distance apart are one."""
    dx, dy = face.landmarks.points[2] - other.landmarks.points[2]
    return float(np.hypot(dx, dy)) < other.landmarks.eye_distance / 2


def _told(image: Image, number: int, face: Face, crop: Crop) -> FoundFace:
    facts = found(image, face)
    points = face.landmarks.points / (image.width, image.height)
    return FoundFace(
        face=number,
        box=facts.box,
        score=facts.score,
        landmarks=[(float(x), float(y)) for x, y in points],
        crop=base64.b64encode(write_small_png(crop.pixels)).decode(),
    )
