"""python -m export.consent FOLDER: who allowed a face, when and what for, or that it is a render.

FOLDER is a bundle, whose manifest gets the record of those who have none (or of --identity), or a folder of
crops, which gets an identity.json for training and export to read.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from export.bundle import ExportError, write_atomically
from export.lock import locked
from faceswap.bundle import MANIFEST_NAME, Bundle, Consent, Manifest
from faceswap.errors import SwapError
from models.errors import TrainingError

RECORD_NAME = "identity.json"
RENDER = {"given_by": "nobody: a render, no real person", "purpose": "whatever the licence allows"}
HOW = (
    "--consent-by NAME --consent-date YYYY-MM-DD --consent-for PURPOSE, "
    "or --synthetic for a render that is no real person"
)

log = logging.getLogger("export")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The record in words, for this command and for `python -m export`."""
    group = parser.add_argument_group(
        "consent", "who may be rendered; an identity without a record is refused"
    )
    group.add_argument("--consent-by", metavar="NAME", help="who gave it: the person, or who speaks for them")
    group.add_argument("--consent-date", metavar="DATE", help="when, as YYYY-MM-DD")
    group.add_argument("--consent-for", metavar="PURPOSE", help="what for")
    group.add_argument(
        "--synthetic", action="store_true", help="a render: there is no person who could consent"
    )
    group.add_argument("--licence", help="of the photos and what is made of them")


def consent_of(options: argparse.Namespace) -> Consent | None:
    """What the options say; None where they say nothing. ExportError for half a record."""
    said = {
        "given_by": options.consent_by, "date": options.consent_date, "purpose": options.consent_for
    }  # fmt: skip
    given = {name: value for name, value in said.items() if value}
    if options.synthetic:
        given = {"date": _today().isoformat(), **RENDER, **given}
    if not given:
        return None
    try:
        record = Consent(kind="synthetic" if options.synthetic else "person", **given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ExportError(f"consent: {first['loc'][0]}: {first['msg']}; give {HOW}") from None
    return checked(record)


def checked(record: Consent) -> Consent:
    """ExportError for a consent that is yet to be given."""
    if date.fromisoformat(record.date) > _today() + timedelta(
        days=1
    ):  # it may be tomorrow already, elsewhere
        raise ExportError(f"consent: {record.date} is in the future")
    return record


def fill(records: dict[str, dict[str, Any]], names: list[str], options: argparse.Namespace) -> None:
    """Gives the options' record to those of `names` that have none; nobody's own is changed."""
    consent = consent_of(options)
    for name in names:
        record = records.setdefault(name, {})
        if consent is not None and not record.get("consent"):
            record["consent"] = consent.model_dump()
        if options.licence and not record.get("licence"):
            record["licence"] = options.licence


def record_in_bundle(folder: Path, consent: Consent, names: list[str] | None) -> list[str]:
    """Writes the manifest anew; nothing else of the bundle changes. Who has got the record."""
    with locked(folder):
        path = folder / MANIFEST_NAME
        content = _json(path)
        entries = {str(entry.get("name")): entry for entry in content.get("identities", [])}
        if unknown := sorted(set(names or []) - set(entries)):
            raise ExportError(f"{folder} has no {', '.join(unknown)}; it has {', '.join(sorted(entries))}")
        chosen = names or [name for name, entry in entries.items() if not entry.get("consent")]
        for name in chosen:
            entries[name]["consent"] = consent.model_dump()
        try:
            manifest = Manifest.model_validate(content)
        except ValidationError as error:
            raise ExportError(f"{path} is no valid manifest: {error.errors()[0]['msg']}") from None
        for file in manifest.files:
            Bundle(folder, manifest).read(file)  # no record for a bundle that is damaged
        if chosen:
            write_atomically(path, (manifest.model_dump_json(indent=1) + "\n").encode())
    return chosen


def record_beside_crops(folder: Path, consent: Consent, licence: str | None) -> Path:
    """`identity.json`, with what else it held."""
    path = folder / RECORD_NAME
    content = _json(path) if path.exists() else {}
    content |= {"consent": consent.model_dump()} | ({"licence": licence} if licence else {})
    if not content.get("licence"):
        raise ExportError("give --licence too, such as 'all rights reserved' or CC0-1.0")
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ExportError(f"{path} must hold an object")
    return content


def _today() -> date:
    return datetime.now(UTC).date()


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _run(options)
    except (TrainingError, SwapError, OSError) as error:
        sys.stderr.write(f"export.consent: {error}\n")
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    folder: Path = options.folder
    consent = consent_of(options)
    if consent is None:
        raise ExportError(f"say who has consented: {HOW}")
    if not folder.is_dir():
        raise ExportError(f"there is no folder {folder}")
    if not (folder / MANIFEST_NAME).exists():
        log.info("wrote %s", record_beside_crops(folder, consent, options.licence))
        return
    chosen = record_in_bundle(folder, consent, options.identity)
    log.info(
        "%s: recorded for %s", folder, ", ".join(chosen) or "nobody: all have a record (--identity NAME)"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export.consent", description=__doc__)
    parser.add_argument("folder", type=Path, help="a bundle, or a folder of crops")
    parser.add_argument(
        "--identity", nargs="+", metavar="NAME", help="record it for these, whatever they had (bundles)"
    )
    add_options(parser)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
