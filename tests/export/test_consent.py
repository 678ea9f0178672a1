"""python -m export.consent: a record for who has none, in a bundle or beside crops; nothing else changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from export.consent import main
from faceswap.bundle import Bundle
from faceswap.errors import BundleError
from models.dataset import read_record
from tests.export.folders import contents

PERSON = ["--consent-by", "Ann Example", "--consent-date", "2026-01-31", "--consent-for", "a school play"]
RECORD = {"kind": "person", "given_by": "Ann Example", "date": "2026-01-31", "purpose": "a school play"}


@pytest.fixture
def folder(identity_bundle: Path, tmp_path: Path) -> Path:
    """A bundle whose first two identities have no record."""
    folder = Path(shutil.copytree(identity_bundle, tmp_path / "bundle"))
    content = json.loads((folder / "manifest.json").read_text())
    for entry in content["identities"][:2]:
        del entry["consent"]
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def refusal(capsys: pytest.CaptureFixture[str], *options: str | Path) -> str:
    assert main([str(option) for option in options]) == 2
    line = capsys.readouterr().err
    assert line.startswith("export.consent: ") and line.count("\n") == 1, line
    return line


def records(folder: Path) -> dict[str, Any]:
    return {entry.name: entry.consent.model_dump() for entry in Bundle.open(folder).manifest.identities}


def test_who_has_no_record_gets_it_and_the_bundle_opens_again(folder: Path, identity_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"python -m export\.consent"):
        Bundle.open(folder)
    assert main([str(folder), *PERSON]) == 0
    before = records(identity_bundle)
    assert records(folder) == before | dict.fromkeys(list(before)[:2], RECORD)
    old, new = contents(identity_bundle), contents(folder)
    assert {name for name in old | new if old.get(name) != new.get(name)} == {"manifest.json"}


def test_one_who_has_a_record_is_changed_by_name_only(folder: Path) -> None:
    assert main([str(folder), "--synthetic"]) == 0
    assert {record["kind"] for record in records(folder).values()} == {"synthetic"}
    assert main([str(folder), *PERSON]) == 0, "nobody is left without"
    assert RECORD not in records(folder).values()
    assert main([str(folder), "--identity", "echo", *PERSON]) == 0
    assert [name for name, record in records(folder).items() if record == RECORD] == ["echo"]


def test_crops_get_an_identity_json_that_training_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = tmp_path / "ann"
    crops.mkdir()
    (crops / "identity.json").write_text('{"note": "kept"}')
    assert "--licence" in refusal(capsys, crops, *PERSON)
    assert main([str(crops), "--licence", "all rights reserved", *PERSON]) == 0
    assert read_record(crops) == {"note": "kept", "consent": RECORD, "licence": "all rights reserved"}
    assert main([str(crops), "--synthetic", "--consent-for", "tests"]) == 0
    assert read_record(crops)["consent"].items() >= {"kind": "synthetic", "purpose": "tests"}.items()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "say who has consented: --consent-by"),
        (PERSON[:2], "consent: date: Field required"),
        ([*PERSON[:2], "--consent-date", "soon", *PERSON[4:]], "consent: date: "),
        ([*PERSON[:2], "--consent-date", "2999-12-31", *PERSON[4:]], "2999-12-31 is in the future"),
        ([*PERSON, "--identity", "bob"], "has no bob; it has cutout, echo, negative"),
    ],
)
def test_half_a_record_is_one_line_and_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    before = contents(folder)
    assert words in refusal(capsys, folder, *options)
    assert contents(folder) == before


def test_no_folder_no_manifest_and_a_damaged_bundle_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no folder" in refusal(capsys, folder / "absent", *PERSON)
    next((folder / "decoders").iterdir()).write_bytes(b"damaged")
    assert "the manifest says" in refusal(capsys, folder, *PERSON)
    (folder / "manifest.json").write_text("{")
    assert "cannot be read as JSON" in refusal(capsys, folder, *PERSON)
