"""python -m service.bundle_info BUNDLE: who is in a bundle, how large, how good, and who allowed it.

Every file is checked as at the start of the service. --json writes the same for programs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faceswap.bundle import Bundle, EncoderEntry, IdentityEntry, Manifest
from faceswap.errors import BundleError

REFUSED = 2
FIGURES = {"top1": "top-1", "leak": "leak", "light": "light", "ssim": "SSIM", "landmark_error": "landmarks"}
"""Of `metrics`, those that models.evaluate writes for an identity: docs/training.md."""
HEADS = (
    "identity",
    "decoder MB",
    "precision",
    *FIGURES.values(),
    "consent",
    "by",
    "date",
    "purpose",
    "licence",
)
WIDEST = 32


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one line about a bundle that would not be served."""
    options = _parser().parse_args(arguments)
    try:
        bundle = Bundle.open(options.bundle)
    except BundleError as error:
        sys.stderr.write(f"service.bundle_info: {error}\n")
        return REFUSED
    sys.stdout.write(as_json(bundle) if options.json else as_text(bundle))
    return 0


def as_json(bundle: Bundle) -> str:
    manifest = bundle.manifest
    content = {
        **_facts(manifest),
        "folder": str(bundle.folder),
        "encoder": _network(manifest.encoder, manifest.encoder.graph.bytes),
        "identities": [_identity(entry) for entry in manifest.identities],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def as_text(bundle: Bundle) -> str:
    manifest, facts = bundle.manifest, _facts(bundle.manifest)
    variants = ", ".join(_precisions(manifest.encoder))
    head = (
        f"{facts['name']}, made {facts['created']} by {facts['generator']}: {facts['files']} files, "
        f"{facts['bytes'] / 1e6:.1f} MB, all as the manifest says\n"
        f"encoder {manifest.encoder.graph.bytes / 1e6:.1f} MB ({variants}), "
        f"latent {'x'.join(map(str, manifest.latent.shape))}; {manifest.encoder.licence}\n\n"
    )
    return head + table(HEADS, [_row(entry) for entry in manifest.identities])


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; a cell that is too long ends in three dots."""
    cells = [[_short(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(heads))]
    cells.insert(1, ["-" * width for width in widths])
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in cells
    )


def _row(entry: IdentityEntry) -> list[str]:
    consent = entry.consent
    figures = [_figure(entry.metrics.get(name)) for name in FIGURES]
    size, precisions = f"{entry.decoder.bytes / 1e6:.1f}", ", ".join(_precisions(entry))
    told = [consent.kind, consent.given_by, consent.date, consent.purpose, entry.licence]
    return [entry.name, size, precisions, *figures, *told]


def _precisions(entry: EncoderEntry | IdentityEntry) -> list[str]:
    """fp32, and the variants with how like fp32 their faces are."""
    return ["fp32", *(f"{name} {v.gate.ssim:.3f}{'' if v.gate.passed else ' (failed)'}"
                      for name, v in entry.variants.items())]  # fmt: skip


def _facts(manifest: Manifest) -> dict[str, Any]:
    whole = sum({entry.path: entry.bytes for entry in manifest.files}.values())
    return {
        "name": manifest.name,
        "created": manifest.created,
        "generator": manifest.generator,
        "schema_version": manifest.schema_version,
        "files": len({entry.path for entry in manifest.files}) + 1,
        "bytes": whole,
    }


def _identity(entry: IdentityEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        **_network(entry, entry.decoder.bytes),
        "consent": entry.consent.model_dump(),
        "training": entry.training,
        "metrics": entry.metrics,
    }


def _network(entry: EncoderEntry | IdentityEntry, size: int) -> dict[str, Any]:
    gates = {name: {**v.gate.model_dump(), "passed": v.gate.passed} for name, v in entry.variants.items()}
    return {"bytes": size, "licence": entry.licence, "parity": entry.parity.model_dump(), "variants": gates}


def _figure(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) and not isinstance(value, bool) else "-"


def _short(cell: str) -> str:
    line = " ".join(cell.split())
    return line if len(line) <= WIDEST else line[: WIDEST - 3] + "..."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m service.bundle_info",
        description="Who is in a bundle, how large, how good, and who allowed it. Every file is checked.",
        epilog="example: python -m service.bundle_info bundles/demo",
    )
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument("--json", action="store_true", help="for programs, with all figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
