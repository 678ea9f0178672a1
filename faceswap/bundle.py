"""The bundle: a folder with graphs and a manifest.json, the contract between export and service."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import date, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from faceswap.errors import BundleError, UnknownIdentityError
from faceswap.faces import CROP_SIZE

SCHEMA_VERSION: Final = 1
MANIFEST_NAME = "manifest.json"
SSIM_GATE = 0.97
"""Least mean SSIM of a variant's faces to the fp32 ones."""
TOP1_GATE = 0.01
"""Most that the judge's top-1 may fall by."""


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or set(path) & {"\\", ":", "\0"}:
        raise ValueError("must be a relative path inside the bundle, with / between folders")
    return path


def _utc(moment: str) -> str:
    if datetime.fromisoformat(moment).utcoffset() != timedelta(0):
        raise ValueError("must be a UTC time such as 2026-01-31T12:00:00Z")
    return moment


def _day(day: str) -> str:
    date.fromisoformat(day)
    return day


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
IdentityName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileEntry(_Entry):
    """A file of the bundle; `path` is relative to the manifest, with forward slashes."""

    path: Annotated[str, AfterValidator(_inside)]
    sha256: Sha256
    bytes: Annotated[int, Field(ge=1)]


class CropSpec(_Entry):
    """What `align` must make for the encoder: side in pixels, template as shares of the side."""

    size: int
    template: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=5, max_length=5)]


class LatentSpec(_Entry):
    """Shape of one latent, float32."""

    channels: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


class Parity(_Entry):
    """torch against onnxruntime on `samples` crops: grey levels of 255 for a decoder, relative
    to the latent's mean absolute value for the encoder."""

    samples: Annotated[int, Field(ge=1)]
    mean_error: Annotated[float, Field(ge=0)]
    max_error: Annotated[float, Field(ge=0)]
    tolerance: Annotated[float, Field(ge=0)]


class Gate(_Entry):
    """A variant's swapped faces beside those of the fp32 graphs, on crops it was not calibrated on.

    `error` is the mean difference in grey levels of 255. `top1` is the share of faces that `judge`
    takes for the identity; None where there was no judge.
    """

    samples: Annotated[int, Field(ge=1)]
    sources: str
    provider: str
    emulates: str | None = None
    """The provider whose rounding was carried out on `provider`, result by result, as it was not there."""
    ssim: Annotated[float, Field(ge=-1, le=1)]
    error: Annotated[float, Field(ge=0)]
    judge: str | None = None
    top1: Share | None = None
    top1_fp32: Share | None = None

    def holds_on(self, provider: str | None) -> bool:
        """Whether the figures tell what `provider` does."""
        return provider is not None and provider in (self.provider, self.emulates)

    @property
    def passed(self) -> bool:
        """Whether the service may take the variant by itself."""
        fallen = 0.0 if self.top1 is None or self.top1_fp32 is None else self.top1_fp32 - self.top1
        return self.ssim >= SSIM_GATE and fallen <= TOP1_GATE + 1e-9


class Variant(_Entry):
    """The same network in another precision: a small graph that borrows the weights of the fp32 file.

    `in_float` names the layers that stay in float, and why.
    """

    graph: FileEntry
    gate: Gate
    in_float: dict[str, str] = {}
    calibrated_on: str | None = None


Variants = dict[Annotated[str, Field(pattern=r"^(int8|fp16)$")], Variant]
"""By precision."""


class EncoderEntry(_Entry):
    """The one encoder of the bundle, bottleneck included.

    The gate of its variants is that of the worst identity, drawn by the identities' fp32 decoders.
    """

    graph: FileEntry
    weights_sha256: Sha256
    parity: Parity
    licence: str
    training: dict[str, JsonValue]
    variants: Variants = {}


class Consent(_Entry):
    """Who allowed this face to be rendered, when and what for."""

    kind: Literal["synthetic", "person"]
    given_by: Annotated[str, Field(min_length=1)]
    date: Annotated[str, AfterValidator(_day)]
    purpose: Annotated[str, Field(min_length=1)]


class IdentityEntry(_Entry):
    """A person and the decoder that renders them; it fits the encoder it was trained with only.

    The gate of its variants is that of the pair: encoder and decoder in the same precision.
    """

    name: IdentityName
    decoder: FileEntry
    encoder_sha256: Sha256
    preview: FileEntry | None
    parity: Parity
    licence: str
    consent: Consent
    training: dict[str, JsonValue]
    metrics: dict[str, JsonValue]
    variants: Variants = {}


class Manifest(_Entry):
    """manifest.json of a bundle."""

    schema_version: Literal[1]
    name: Annotated[str, Field(min_length=1)]
    created: Annotated[str, AfterValidator(_utc)]
    generator: str
    opset: Annotated[int, Field(ge=1)]
    crop: CropSpec
    latent: LatentSpec
    encoder: EncoderEntry
    identities: list[IdentityEntry]
    universal: FileEntry | None = None
    """The decoder of everybody, from which training enrols new people. It is no identity: never served."""

    @property
    def files(self) -> list[FileEntry]:
        """Every file that the manifest names."""
        previews = [identity.preview for identity in self.identities if identity.preview]
        universal = [self.universal] if self.universal else []
        decoders = [identity.decoder for identity in self.identities]
        networks = [self.encoder.variants, *(identity.variants for identity in self.identities)]
        variants = [variant.graph for each in networks for variant in each.values()]
        return [self.encoder.graph, *universal, *decoders, *previews, *variants]


class Stamp(NamedTuple):
    """Changes with every write to a file; a copy has another one."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class _Version(BaseModel):
    """Read before the rest: another version may have any other fields."""

    schema_version: int


class Bundle:
    """A bundle whose files were all checked; nothing unchecked is ever handed out."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._identities = {identity.name: identity for identity in manifest.identities}
        self._checked: set[tuple[str, Stamp]] = set()

    @classmethod
    def open(cls, folder: Path, checked: Bundle | None = None) -> Bundle:
        """The bundle in `folder`; BundleError, in one line, for anything that must not be served.

        A file that `checked` has checked, and that was not written to since, is not read again.
        Where `folder` is a link, the bundle stays with the folder that it leads to now.
        """
        folder = folder.resolve() if folder.is_symlink() else folder
        manifest = _read_manifest(folder)
        _check_manifest(manifest)
        bundle = cls(folder, manifest)
        known = checked._checked if checked else set()
        for entry in manifest.files:
            bundle._check_file(entry, known)
        return bundle

    def read(self, entry: FileEntry) -> bytes:
        """The file's bytes, checked again: a file exchanged since the start is never loaded."""
        try:
            data = self._path(entry).read_bytes()
        except OSError as error:
            raise BundleError(f"{entry.path} of bundle {self.folder} is missing or unreadable") from error
        self._compare(entry, len(data), hashlib.sha256(data).hexdigest())
        return data

    def identity(self, name: str) -> IdentityEntry:
        """UnknownIdentityError, naming the ones there are, if `name` is not among them."""
        entry = self._identities.get(name)
        if entry is None:
            raise UnknownIdentityError(name, self._identities)
        return entry

    def _check_file(self, entry: FileEntry, known: set[tuple[str, Stamp]]) -> None:
        """Like `read`, without holding the whole file in memory."""
        path = self._path(entry)
        try:
            with path.open("rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))
                sha256 = entry.sha256
                if (sha256, stamp) not in known:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BundleError(f"{entry.path} of bundle {self.folder} is missing or unreadable") from error
        self._compare(entry, stamp.size, sha256)
        self._checked.add((sha256, stamp))

    def _path(self, entry: FileEntry) -> Path:
        path = self.folder / entry.path
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise BundleError(f"{entry.path} of bundle {self.folder} leads out of the bundle")
        return path

    def _compare(self, entry: FileEntry, size: int, sha256: str) -> None:
        if size != entry.bytes:
            raise BundleError(
                f"{entry.path} of bundle {self.folder} has {size} bytes; the manifest says {entry.bytes}"
            )
        if sha256 != entry.sha256:
            raise BundleError(
                f"{entry.path} of bundle {self.folder} is damaged: its sha256 is {sha256[:8]}..., "
                f"the manifest says {entry.sha256[:8]}..."
            )


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise BundleError(f"there is no bundle folder {folder}")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} is missing or unreadable") from error
    try:
        version = _Version.model_validate_json(text).schema_version
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{path} has schema version {version}; this version of faceswapd understands {SCHEMA_VERSION}"
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["loc"][2:3] == ("consent",):
            raise BundleError(_no_consent(folder, text, first["loc"])) from None
        place = ".".join(str(step) for step in first["loc"]) or "the file"
        raise BundleError(f"{path} is no valid manifest: {place}: {first['msg']}") from error


def _no_consent(folder: Path, text: bytes, place: tuple[int | str, ...]) -> str:
    """Of the identity at `place` of the manifest's `text`, and what to do about it."""
    name = str(json.loads(text)["identities"][place[1]].get("name", place[1]))[:64]
    return (
        f"identity {name!r} of bundle {folder} has no valid consent record and is not served; add one: "
        f"python -m export.consent {folder} --identity {name} --consent-by NAME --consent-date YYYY-MM-DD "
        "--consent-for PURPOSE (a render: --synthetic)"
    )


def _check_manifest(manifest: Manifest) -> None:
    """What the types alone cannot say."""
    names = [identity.name for identity in manifest.identities]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names:
        raise BundleError(f"bundle {manifest.name!r} has no identities")
    if twice:
        raise BundleError(f"bundle {manifest.name!r} names an identity twice: {', '.join(twice)}")
    if manifest.crop.size != CROP_SIZE:
        raise BundleError(
            f"bundle {manifest.name!r} wants crops of {manifest.crop.size} px; only {CROP_SIZE} px are served"
        )
    for identity in manifest.identities:
        if identity.encoder_sha256 != manifest.encoder.weights_sha256:
            raise BundleError(
                f"the decoder of {identity.name!r} belongs to encoder {identity.encoder_sha256[:8]}..., "
                f"bundle {manifest.name!r} has {manifest.encoder.weights_sha256[:8]}..."
            )
