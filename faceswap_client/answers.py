"""What comes back, as types: pictures, failures, identities, health."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from faceswap_client.errors import BrokenAnswerError, ProblemError, problem_error


@dataclass(frozen=True, slots=True)
class Face:
    """The face that was swapped: shares (0 to 1) of the upright photo's width and height."""

    left: float
    top: float
    right: float
    bottom: float
    score: float
    """The detector's confidence, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A swapped face or photo: a picture file, marked as synthetic."""

    data: bytes = field(repr=False)
    media_type: str
    """image/png, image/jpeg or image/webp."""
    target: str
    image: int = 0
    """Which photo of a batch, from 0."""
    digital_source_type: str = ""
    """IPTC's word for how the picture came to be."""
    face: Face | None = None
    """None with crop="none"."""
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    """What each step took in the service."""
    request_id: str = ""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the file and gives its path back."""
        Path(path).write_bytes(self.data)
        return Path(path)


@dataclass(frozen=True, slots=True)
class Failure:
    """A photo and a target of which nothing came; the others of the batch go on."""

    target: str
    image: int
    error: ProblemError


Result: TypeAlias = Picture | Failure


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a batch."""

    done: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Consent:
    """Who agreed to be rendered, when, and what for; kind: person or synthetic."""

    kind: str
    given_by: str
    date: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who can be rendered. `facts` is the whole answer, with whatever the service adds."""

    name: str
    licence: str
    consent: Consent
    has_preview: bool
    facts: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Identity:
        record = facts["consent"]
        consent = Consent(*(str(record[key]) for key in ("kind", "given_by", "date", "purpose")))
        return cls(facts["name"], facts["licence"], consent, bool(facts.get("preview")), facts)


@dataclass(frozen=True, slots=True)
class Health:
    """How the service is; `facts` is the whole answer."""

    status: str
    """starting, ready, draining or failed."""
    version: str
    provider: str
    """What onnxruntime really runs on."""
    precision: str
    identities: Sequence[str]
    facts: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Health:
        return cls(
            status=facts["status"],
            version=facts["version"],
            provider=facts["provider"],
            precision=facts["precision"],
            identities=tuple(facts["bundle"]["identities"]),
            facts=facts,
        )


def picture_of(headers: Mapping[str, str], body: bytes, target: str) -> Picture:
    """Of an answer that is a picture. BrokenAnswerError where it is something else."""
    media_type = headers.get("content-type", "")
    if not media_type.startswith("image/"):
        raise BrokenAnswerError(f"a picture was expected, {media_type or 'something without a type'} came")
    return Picture(
        data=body,
        media_type=media_type,
        target=target,
        digital_source_type=headers.get("x-digital-source-type", ""),
        face=_face_of_headers(headers),
        milliseconds=_server_timing(headers.get("server-timing", "")),
        request_id=headers.get("x-request-id", ""),
    )


def result_of(line: str, request_id: str = "") -> Result | Summary:
    """Of a line of JSON."""
    try:
        row = json.loads(line)
        if "summary" in row:
            return Summary(**row["summary"])
        if "problem" in row:
            return Failure(row["target"], row["image"], problem_error(row["problem"]))
        return Picture(
            data=base64.b64decode(row["data"], validate=True),
            media_type=row["media_type"],
            target=row["target"],
            image=row["image"],
            digital_source_type=row.get("digital_source_type", ""),
            face=face_of(row.get("face")),
            milliseconds=row.get("milliseconds", {}),
            request_id=request_id,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenAnswerError("a line of the answer is not what docs/api.md says") from error


def face_of(facts: Mapping[str, Any] | None) -> Face | None:
    """Of `{"box": [left, top, right, bottom], "score": 0.97}`."""
    if not facts:
        return None
    left, top, right, bottom = facts["box"]
    return Face(left, top, right, bottom, facts["score"])


def _face_of_headers(headers: Mapping[str, str]) -> Face | None:
    if "x-face-box" not in headers:
        return None
    left, top, right, bottom = (float(share) for share in headers["x-face-box"].split(","))
    return Face(left, top, right, bottom, float(headers.get("x-face-score", "nan")))


def _server_timing(header: str) -> dict[str, float]:
    """`read;dur=1.2, detect;dur=3` -> {"read": 1.2, "detect": 3.0}."""
    steps = [step.strip().partition(";dur=") for step in header.split(",")]
    return {name: float(duration) for name, mark, duration in steps if mark}
