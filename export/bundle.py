"""Writes bundles: new files under names made of their content, then the manifest in one rename."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from faceswap.bundle import MANIFEST_NAME, Bundle, FileEntry, Manifest
from faceswap.errors import BundleError
from models.errors import TrainingError

_OURS = re.compile(
    r"(encoder(-int8|-fp16)?|universal|decoders/[a-z0-9_-]+|previews/[a-z0-9_-]+)-[0-9a-f]{8}\.(onnx|png)(\.partial)?|manifest\.json\.partial"
)
"""Names that `add` gives. The folder may hold other things of its owner's, which are never deleted."""


class ExportError(TrainingError):
    """An export that must not happen; the message says what to do."""


def generator_name() -> str:
    """`faceswapd` and its version, for the manifest."""
    try:
        return f"faceswapd {version('faceswapd')}"
    except PackageNotFoundError:  # run from a folder that was never installed
        return "faceswapd"


def now() -> str:
    """The present second in UTC, as the manifest wants it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(slots=True, eq=False)
class BundleWriter:
    """One change of the bundle in `folder`, whole or not at all.

    Files are named by their sha256 and never overwritten; `commit` replaces manifest.json last, by
    a rename. A crash at any time leaves the old manifest with all of its files. Files that neither
    the new nor the previous manifest names are then deleted: a service that still runs on the
    previous manifest can go on loading decoders from it.
    """

    folder: Path
    replace: bool = False
    """Keep nothing of the bundle that is there, which may then be a broken one."""
    old: Manifest | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if (self.folder / MANIFEST_NAME).exists() and not self.replace:
            try:
                self.old = Bundle.open(self.folder).manifest
            except BundleError as error:
                raise ExportError(
                    f"the bundle to add to is broken ({error}); export with --replace"
                ) from error

    def add(self, stem: str, suffix: str, data: bytes) -> FileEntry:
        """Writes `data` to `<stem>-<sha8><suffix>` and returns its entry."""
        digest = hashlib.sha256(data).hexdigest()
        entry = FileEntry(path=f"{stem}-{digest[:8]}{suffix}", sha256=digest, bytes=len(data))
        path = self.folder / entry.path
        if not (path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest):
            write_atomically(path, data)
        return entry

    def commit(self, manifest: Manifest) -> Bundle:
        """Makes `manifest` the bundle's, after reading back all that it names."""
        data = (manifest.model_dump_json(indent=1) + "\n").encode()
        for entry in manifest.files:
            found = hashlib.sha256((self.folder / entry.path).read_bytes()).hexdigest()
            if found != entry.sha256:
                raise ExportError(f"{entry.path} changed while it was being written; export again")
        write_atomically(self.folder / MANIFEST_NAME, data)
        self._sweep(manifest)
        return Bundle.open(self.folder)

    def _sweep(self, manifest: Manifest) -> None:
        wanted = {entry.path for kept in (manifest, self.old) if kept for entry in kept.files}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if _OURS.fullmatch(name) and name not in wanted:
                path.unlink()


def write_atomically(path: Path, data: bytes) -> None:
    """The file holds either what it held or all of `data`, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
