"""What goes over HTTP, in and out: the query of a swap, identities, health, problems."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from faceswap.bundle import Consent, Gate, Parity
from faceswap.images import ImageFormat
from faceswap.precisions import Precision


class CropMode(StrEnum):
    AUTO = "auto"
    NONE = "none"


class Output(StrEnum):
    FACE = "face"
    PHOTO = "photo"


MAX_TARGETS = 32
"""Identities per request."""


def _names(given: object) -> object:
    """`a,b` is the same as `a` and `b`; a name that comes again counts once."""
    if not isinstance(given, list):
        return given
    names = [name.strip() for entry in given for name in str(entry).split(",")]
    return list(dict.fromkeys(name for name in names if name))


class SwapQuery(BaseModel):
    """The query of POST /swap. Unknown names are refused: a typo must not be ignored in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Annotated[
        list[str],
        BeforeValidator(_names),
        Field(
            min_length=1,
            max_length=MAX_TARGETS,
            description="The identity to render; GET /identities lists them. Several of them, as a,b or "
            "repeated, give one answer with a result for each; the photo is read and encoded once.",
        ),
    ]
    crop: Annotated[
        CropMode,
        Field(description="auto: find and align the face. none: the photo is a ready, aligned 64x64 crop."),
    ] = CropMode.AUTO
    face: Annotated[
        int, Field(ge=0, le=99, description="Which face of the photo: 0 is the largest, 1 the next one.")
    ] = 0
    output: Annotated[
        Output,
        Field(description="face: the swapped 64x64 face. photo: the whole photo with that face set into it."),
    ] = Output.FACE
    format: Annotated[ImageFormat, Field(description="The answer's picture format.")] = ImageFormat.PNG


class StreamQuery(BaseModel):
    """The query of WS /stream."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    output: Output = Output.PHOTO
    face: Annotated[int, Field(ge=0, le=99)] = 0


class StreamChange(BaseModel):
    """A text message of the client: from the next frame on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str | None = None
    output: Output | None = None


class ParameterError(BaseModel):
    """One wrong parameter. The value that was sent is not repeated."""

    where: Annotated[str, Field(description="query, path or header", examples=["query"])]
    name: Annotated[str, Field(examples=["face"])]
    message: Annotated[str, Field(examples=["Input should be greater than or equal to 0"])]


class Problem(BaseModel):
    """RFC 9457. `type` is stable, decide by it; `detail` is for people and may change."""

    type: Annotated[str, Field(description="Stable name of the error.", examples=["/problems/no-face"])]
    title: str
    status: int
    detail: Annotated[str, Field(description="What happened here and what to do about it.")]
    request_id: Annotated[str, Field(description="The X-Request-ID of this answer; the log has the same.")]
    known: Annotated[
        list[str] | None, Field(description="With unknown-identity: the identities there are.")
    ] = None
    errors: Annotated[
        list[ParameterError] | None, Field(description="With invalid-parameter: what is wrong, one by one.")
    ] = None


class FaceFacts(BaseModel):
    """Where a face is, and how sure that is."""

    box: Annotated[
        tuple[float, float, float, float],
        Field(description="Left, top, right, bottom as shares of the upright photo's width and height."),
    ]
    score: Annotated[float, Field(description="The detector's confidence, 0 to 1.")]


class FoundFace(FaceFacts):
    """A face of a photo that was searched."""

    face: Annotated[int, Field(description="Its number: what the parameter face of /swap takes.")]
    landmarks: Annotated[
        list[tuple[float, float]],
        Field(
            min_length=5,
            max_length=5,
            description="As seen in the picture: left eye, right eye, nose tip, left and right corner of the "
            "mouth; x and y as shares of the upright photo's width and height.",
        ),
    ]
    crop: Annotated[
        str, Field(description="What the encoder would see: a PNG of 64x64 pixels, base64. Not synthetic.")
    ]


class FoundFaces(BaseModel):
    """The faces of a photo, by their numbers."""

    faces: list[FoundFace]
    milliseconds: Annotated[dict[str, float], Field(description="As in Server-Timing: read and detect.")]


class SwapResult(BaseModel):
    """One photo and one target: `data` where it went well, else `problem`."""

    image: Annotated[int, Field(description="Which photo of the request, from 0.")]
    target: str
    status: Annotated[int, Field(description="200, or the status of the problem.")]
    media_type: str | None = None
    data: Annotated[str | None, Field(description="The picture in base64; not inside a ZIP file.")] = None
    digital_source_type: Annotated[
        str | None, Field(description="IPTC's word for how the picture came to be: it is synthetic.")
    ] = None
    face: Annotated[FaceFacts | None, Field(description="Not with crop=none.")] = None
    milliseconds: Annotated[dict[str, float] | None, Field(description="As in Server-Timing.")] = None
    problem: Problem | None = None


class FrameReport(BaseModel):
    """A text message of WS /stream. Without `problem` the frame's picture is the next message."""

    frame: Annotated[int | None, Field(description="Which of the client's frames, from 0.")] = None
    dropped: Annotated[int | None, Field(description="Frames that newer ones replaced, so far.")] = None
    target: str | None = None
    output: Output | None = None
    face: FaceFacts | None = None
    milliseconds: dict[str, float] | None = None
    problem: Problem | None = None


class Summary(BaseModel):
    done: int
    failed: int
    seconds: float


class SwapResults(BaseModel):
    """Several results in the order in which they were done."""

    results: list[SwapResult]
    summary: Summary


class ProblemKind(BaseModel):
    """A row of the table of errors."""

    type: str
    title: str
    status: int


class IdentitySummary(BaseModel):
    name: str
    licence: str
    consent: Consent
    url: Annotated[str, Field(description="Everything the manifest tells about this identity.")]
    preview: Annotated[str | None, Field(description="Address of a preview picture, if there is one.")]


class IdentityList(BaseModel):
    identities: list[IdentitySummary]


class Identity(IdentitySummary):
    """What the manifest tells: whence the decoder comes, how it was trained, how good it was measured."""

    training: dict[str, JsonValue]
    metrics: dict[str, JsonValue]
    parity: Annotated[Parity, Field(description="The measured difference of torch and onnxruntime.")]
    crop_size: Annotated[int, Field(description="Side of the swapped face in pixels.")]
    decoder_bytes: int
    decoder_sha256: str
    encoder_sha256: Annotated[str, Field(description="The encoder that this decoder was trained with.")]
    precision: Annotated[Precision, Field(description="In which the decoder runs: fp32, int8 or fp16.")]
    variants: Annotated[
        dict[str, Gate], Field(description="Other precisions there are, and how they were measured.")
    ]


class BundleFacts(BaseModel):
    name: str
    created: str
    schema_version: int
    identities: list[str]


class DecoderFacts(BaseModel):
    """Which decoders are in memory; the others are loaded when they are asked for."""

    loaded: list[str]
    pinned: Annotated[list[str], Field(description="Never let go.")]
    memory_mib: Annotated[float, Field(description="Of the loaded ones, estimated from measured loads.")]
    limit_mib: Annotated[float | None, Field(description="FACESWAPD_DECODER_MEMORY_MIB; null: no limit.")]


class Reloaded(BaseModel):
    """What a reload has changed."""

    bundle: str
    created: str
    encoder_replaced: bool
    added: list[str]
    replaced: Annotated[list[str], Field(description="Identities about which anything differs.")]
    removed: list[str]
    unchanged: Annotated[int, Field(description="How many identities are as before.")]
    seconds: float


class Health(BaseModel):
    """For people; machines ask /health/live and /health/ready."""

    status: Annotated[str, Field(examples=["ready"], description="starting, ready, draining or failed")]
    version: str
    started: datetime
    provider: Annotated[str, Field(description="What onnxruntime really runs on.")]
    precision: Annotated[Precision, Field(description="In which the encoder runs: fp32, int8 or fp16.")]
    workers: int
    dead_workers: list[str]
    photos: Annotated[int, Field(description="Photos inside the service now.")]
    photos_limit: int
    memory_mib: Annotated[float | None, Field(description="Resident memory of the process.")]
    bundle: BundleFacts
    decoders: DecoderFacts


class Live(BaseModel):
    status: Annotated[str, Field(examples=["live"])]


class Ready(BaseModel):
    status: Annotated[str, Field(examples=["ready"])]
    provider: str
