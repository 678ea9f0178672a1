"""What lies in a bundle's folder, and a small change of it, without torch."""

from __future__ import annotations

from pathlib import Path

from export.bundle import BundleWriter
from faceswap.bundle import Bundle, IdentityEntry


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def change(folder: Path, data: bytes, replace: bool = False) -> Bundle:
    """Gives `echo` a decoder of `data`; with `replace` nobody else stays."""
    old = Bundle.open(folder).manifest
    writer = BundleWriter(folder, replace)
    graph = writer.add("encoder", ".onnx", (folder / old.encoder.graph.path).read_bytes())
    echo = old.identities[0].model_copy(update={"decoder": writer.add("decoders/echo", ".onnx", data)})
    rest: list[IdentityEntry] = [] if replace else old.identities[1:]
    encoder = old.encoder.model_copy(update={"graph": graph})
    return writer.commit(old.model_copy(update={"encoder": encoder, "identities": [echo, *rest]}))
