"""Changes to a copy of the identity bundle as an export would make them, without the onnx package."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


def add(folder: Path, name: str, like: str) -> None:
    """Another identity, with the decoder of `like`."""
    with _Manifest(folder) as manifest:
        manifest["identities"].append({**_entry(manifest, like), "name": name})


def fatten(folder: Path, name: str, size: int) -> None:
    """A decoder of its own for `name`, with a comment of `size` bytes: it draws as before."""
    with _Manifest(folder) as manifest:
        entry = _entry(manifest, name)
        graph = (folder / entry["decoder"]["path"]).read_bytes()
        text = name.encode().ljust(size)
        comment = b"\x32" + _varint(len(text)) + text  # ModelProto.doc_string, field 6
        entry["decoder"] = _write(folder, f"decoders/{name}-{{}}.onnx", graph + comment)


def _varint(number: int) -> bytes:
    """As protobuf writes it: seven bits a byte, the lowest first."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def remove(folder: Path, name: str) -> None:
    """Out of the manifest, and its decoder out of the folder."""
    with _Manifest(folder) as manifest:
        entry = _entry(manifest, name)
        manifest["identities"].remove(entry)
        (folder / entry["decoder"]["path"]).unlink()


def redraw(folder: Path, name: str, like: str) -> None:
    """`name` now has a decoder with the graph of `like`; the file of the old one stays."""
    with _Manifest(folder) as manifest:
        _entry(manifest, name)["decoder"] = _entry(manifest, like)["decoder"]


def ruin(folder: Path, name: str) -> None:
    """`name` now has a decoder that is no graph, with the sha256 that it should have."""
    with _Manifest(folder) as manifest:
        entry = _entry(manifest, name)
        entry["decoder"] = _write(folder, "decoders/ruined-{}.onnx", b"this is no graph")


def rescale(folder: Path) -> None:
    """An encoder whose latents are half as large, and decoders that double them.

    Photos come out as before, unless an encoder's latent meets a decoder of the other bundle.
    """
    with _Manifest(folder) as manifest:
        encoder = manifest["encoder"]
        encoder["graph"] = _doubled(folder, encoder["graph"])
        encoder["weights_sha256"] = encoder["graph"]["sha256"]
        for entry in manifest["identities"]:
            entry["decoder"] = _doubled(folder, entry["decoder"])
            entry["encoder_sha256"] = encoder["weights_sha256"]


class _Manifest:
    """The manifest of a folder, written back at the end of the block."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "manifest.json"
        self._manifest: Entry = {}

    def __enter__(self) -> Entry:
        self._manifest = json.loads(self._path.read_text())
        return self._manifest

    def __exit__(self, *error: object) -> None:
        self._path.write_text(json.dumps(self._manifest))


def _entry(manifest: Entry, name: str) -> Entry:
    found: Entry = next(entry for entry in manifest["identities"] if entry["name"] == name)
    return found


def _doubled(folder: Path, file: Entry) -> Entry:
    """The graph of `file` with its scale, the first constant of -255 or else of 255, doubled."""
    graph = (folder / file["path"]).read_bytes()
    scale = next(value for value in (-255.0, 255.0) if struct.pack("<f", value) in graph)
    doubled = graph.replace(struct.pack("<f", scale), struct.pack("<f", 2 * scale), 1)
    return _write(folder, "rescaled-{}.onnx", doubled)


def _write(folder: Path, pattern: str, data: bytes) -> Entry:
    digest = hashlib.sha256(data).hexdigest()
    path = pattern.format(digest[:8])
    (folder / path).write_bytes(data)
    return {"path": path, "sha256": digest, "bytes": len(data)}
