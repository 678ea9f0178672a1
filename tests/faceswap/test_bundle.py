"""Bundle.open: what is served, and every refusal with its one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceswap import BundleError, UnknownIdentityError
from faceswap.bundle import SCHEMA_VERSION, Bundle, Manifest
from tests.faceswap.conftest import Edit

EditManifest = Callable[[Edit], None]


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    line = str(caught.value)
    assert "\n" not in line
    return line


def decoder_of(manifest: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = manifest["identities"][0]["decoder"]
    return entry


def test_opens_and_reads(identity_bundle: Path) -> None:
    bundle = Bundle.open(identity_bundle)
    assert [identity.name for identity in bundle.manifest.identities] == ["echo", "negative", "cutout"]
    entry = bundle.identity("echo").decoder
    assert bundle.read(entry) == (identity_bundle / entry.path).read_bytes()
    assert len(bundle.manifest.files) == 5
    assert bundle.manifest.latent.shape == (48, 16, 16)


def test_an_unknown_identity_is_answered_with_the_known_ones(identity_bundle: Path) -> None:
    with pytest.raises(UnknownIdentityError, match=r"'nobody'.*echo, negative"):
        Bundle.open(identity_bundle).identity("nobody")


def test_the_universal_decoder_is_checked_and_is_nobody(
    bundle: Path, edit_manifest: Callable[[Edit], None]
) -> None:
    """As a file it is like any other; as an identity it is not there."""
    universal = Bundle.open(bundle).identity("echo").decoder.model_dump()
    edit_manifest(lambda manifest: manifest.update(universal=universal | {"sha256": "0" * 64}))
    assert "is damaged" in refusal(bundle)
    edit_manifest(lambda manifest: manifest.update(universal=universal))
    opened = Bundle.open(bundle)
    assert opened.manifest.universal in opened.manifest.files
    with pytest.raises(UnknownIdentityError, match="cutout, echo, negative"):
        opened.identity("universal")


def test_the_manifest_survives_writing_and_reading(identity_bundle: Path) -> None:
    manifest = Bundle.open(identity_bundle).manifest
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_no_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == f"there is no bundle folder {tmp_path / 'gone'}"


def test_no_manifest(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path / 'manifest.json'} is missing or unreadable"


@pytest.mark.parametrize("text", ["", "no json", "[]", "null", '{"schema_version": "one"}', "{}"])
def test_no_valid_json(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    assert refusal(bundle).startswith(f"{bundle / 'manifest.json'} is no valid manifest: ")


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_schema_version_whatever_else_it_holds(bundle: Path, version: int) -> None:
    (bundle / "manifest.json").write_text(json.dumps({"schema_version": version, "novelty": []}))
    expected = f"has schema version {version}; this version of faceswapd understands {SCHEMA_VERSION}"
    assert refusal(bundle).endswith(expected)


def test_a_missing_file(bundle: Path) -> None:
    path = Bundle.open(bundle).identity("echo").decoder.path
    (bundle / path).unlink()
    assert refusal(bundle) == f"{path} of bundle {bundle} is missing or unreadable"


def test_a_truncated_file(bundle: Path) -> None:
    entry = Bundle.open(bundle).manifest.encoder.graph
    (bundle / entry.path).write_bytes((bundle / entry.path).read_bytes()[:-1])
    expected = f"has {entry.bytes - 1} bytes; the manifest says {entry.bytes}"
    assert refusal(bundle) == f"{entry.path} of bundle {bundle} {expected}"


@pytest.mark.parametrize("number", range(4))
def test_one_flipped_bit_in_any_file(bundle: Path, number: int) -> None:
    entry = Bundle.open(bundle).manifest.files[number]
    flip_a_bit(bundle / entry.path)
    assert refusal(bundle).startswith(f"{entry.path} of bundle {bundle} is damaged: its sha256 is ")


def test_a_file_exchanged_after_the_start(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    entry = opened.identity("echo").decoder
    flip_a_bit(bundle / entry.path)
    with pytest.raises(BundleError, match="is damaged"):
        opened.read(entry)
    (bundle / entry.path).unlink()
    with pytest.raises(BundleError, match="is missing"):
        opened.read(entry)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "path", ["../secret", "decoders/../../secret", "/etc/passwd", "a\\b", "C:x", "", ".", "a\0b"]
)
def test_a_path_that_leads_out(bundle: Path, edit_manifest: EditManifest, path: str) -> None:
    edit_manifest(lambda manifest: decoder_of(manifest).update(path=path))
    assert "identities.0.decoder.path: " in refusal(bundle)


def test_a_link_that_leads_out(bundle: Path, tmp_path: Path) -> None:
    entry = Bundle.open(bundle).identity("echo").decoder
    outside = tmp_path / "outside.onnx"
    (bundle / entry.path).rename(outside)
    (bundle / entry.path).symlink_to(outside)
    assert refusal(bundle) == f"{entry.path} of bundle {bundle} leads out of the bundle"


def test_a_linked_folder_is_fine(bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(bundle)
    assert Bundle.open(link).manifest.name == "identity-network"


def test_a_decoder_of_another_encoder(bundle: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda manifest: manifest["identities"][1].update(encoder_sha256="0" * 64))
    assert refusal(bundle).startswith("the decoder of 'negative' belongs to encoder 00000000..., bundle ")


def test_two_identities_of_one_name(bundle: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda manifest: manifest["identities"][1].update(name="echo"))
    assert refusal(bundle) == "bundle 'identity-network' names an identity twice: echo"


def test_no_identity(bundle: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda manifest: manifest["identities"].clear())
    assert refusal(bundle) == "bundle 'identity-network' has no identities"


def test_crops_of_another_size(bundle: Path, edit_manifest: EditManifest) -> None:
    edit_manifest(lambda manifest: manifest["crop"].update(size=128))
    assert refusal(bundle) == "bundle 'identity-network' wants crops of 128 px; only 64 px are served"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("surprise", 1),
        ("created", "yesterday"),
        ("created", "2026-01-01T00:00:00+02:00"),
        ("crop.template", [[0.5, 0.5]] * 4),
        ("crop.template.0.1", 40),
        ("latent.channels", 0),
        ("encoder.graph.sha256", "XYZ"),
        ("encoder.parity.max_error", -1),
        ("identities.0.name", "Will Smith"),
        ("identities.0.name", "../will"),
        ("identities.0.name", "will\n"),
    ],
    ids=str,
)
def test_a_field_that_does_not_fit_is_named(
    bundle: Path, edit_manifest: EditManifest, place: str, value: object
) -> None:
    def change(manifest: Any) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in place.split(".")]
        for step in steps:
            manifest = manifest[step]
        manifest[last] = value

    edit_manifest(change)
    assert f"is no valid manifest: {place}: " in refusal(bundle)


@pytest.mark.parametrize(
    "consent",
    [
        None,
        {},
        {"kind": "none", "given_by": "Ann", "date": "2026-01-31", "purpose": "tests"},
        {"kind": "person", "given_by": "", "date": "2026-01-31", "purpose": "tests"},
        {"kind": "person", "given_by": "Ann", "date": "someday", "purpose": "tests"},
    ],
)
def test_an_identity_without_consent_is_refused_with_the_command_that_adds_it(
    bundle: Path, edit_manifest: EditManifest, consent: Any
) -> None:
    edit_manifest(lambda manifest: manifest["identities"][1].update(consent=consent))
    line = refusal(bundle)
    assert line.startswith(
        f"identity 'negative' of bundle {bundle} has no valid consent record and is not served"
    )
    assert f"python -m export.consent {bundle} --identity negative --consent-by NAME" in line
