"""The committed identity bundle is what its command writes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from faceswap.bundle import Bundle


def test_the_command_writes_the_committed_graphs(identity_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: it belongs to export, not to serving")
    import_module("tests.make_identity_bundle").write(tmp_path)
    written, committed = Bundle.open(tmp_path).manifest, Bundle.open(identity_bundle).manifest
    assert written.encoder == committed.encoder
    assert [i.decoder for i in written.identities] == [i.decoder for i in committed.identities]
    assert [i.consent for i in written.identities] == [i.consent for i in committed.identities]


def test_it_is_small(identity_bundle: Path) -> None:
    assert sum(path.stat().st_size for path in identity_bundle.rglob("*") if path.is_file()) < 50_000


def test_it_holds_nothing_but_what_the_manifest_names(identity_bundle: Path) -> None:
    named = {entry.path for entry in Bundle.open(identity_bundle).manifest.files} | {"manifest.json"}
    there = {path.relative_to(identity_bundle).as_posix() for path in identity_bundle.rglob("*.*")}
    assert there == named
