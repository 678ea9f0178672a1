"""python -m benchmarks.sizing: how many boxes for a rate and so many identities, from what one box did."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from faceswap.bundle import Bundle, Manifest
from faceswap.errors import BundleError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "serving-cpu.json"
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Box:
    """One machine as it was measured: cores, swaps/s at its best, and the case that was asked."""

    cores: int
    swaps_per_s: float
    case: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """`share`: of its capacity, what a box may use in the long run. `per_bundle`: most identities a box."""

    swaps_per_s: float
    identities: int
    share: float
    per_bundle: int


@dataclass(frozen=True, slots=True)
class Size:
    """Boxes if each holds all identities; groups of boxes, and boxes in all, if each group holds its part."""

    boxes: int
    groups: int
    boxes_in_groups: int


def box_of(report: dict[str, Any], case: str) -> Box:
    """The best of the case's rows in a report of `benchmarks.serving`; ValueError if there is none.

    Rows of others (`kind`: a bare loop, a peer) do not count.
    """
    ours = [row for row in report["rows"] if row.get("kind", "service") == "service"]
    rates = [float(row["swaps_per_s"]) for row in ours if row["name"] == case]
    if not rates:
        known = ", ".join(dict.fromkeys(row["name"] for row in ours))
        raise ValueError(f"the report has no rows {case!r}; it has: {known}")
    return Box(report["machine"]["cores"], max(rates), case)


def size(box: Box, wanted: Wanted) -> Size:
    """boxes = rate / (capacity x share). At least two in a group, so that one may fail."""
    usable = box.swaps_per_s * wanted.share
    groups = ceil(wanted.identities / wanted.per_bundle)
    in_group = max(ceil(wanted.swaps_per_s / groups / usable), 2)
    return Size(max(ceil(wanted.swaps_per_s / usable), 2), groups, groups * in_group)


def table(box: Box, wanted: Wanted, manifest: Manifest) -> str:
    """Markdown. File sizes are those of the bundle's largest decoder."""
    found = size(box, wanted)
    decoder = max(identity.decoder.bytes for identity in manifest.identities)
    rows = [
        ("measured", f"{box.swaps_per_s:.1f} swaps/s on {box.cores} cores ({box.case})"),
        ("used of it", f"{box.swaps_per_s * wanted.share:.1f} swaps/s ({wanted.share:.0%})"),
        ("boxes by rate alone", f"{found.boxes:,} ({found.boxes * box.cores:,} cores)"),
        ("decoder files of all identities", f"{wanted.identities * decoder / GIB:,.0f} GiB"),
        ("groups of boxes", f"{found.groups:,}, each with {wanted.per_bundle:,} identities"),
        ("decoder files of a group", f"{wanted.per_bundle * decoder / GIB:.1f} GiB"),
        ("boxes in groups", f"{found.boxes_in_groups:,} ({found.boxes_in_groups * box.cores:,} cores)"),
    ]
    head = f"| {wanted.swaps_per_s:,.0f} swaps/s, {wanted.identities:,} identities | |\n|---|---|\n"
    return head + "".join(f"| {name} | {value} |\n" for name, value in rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--swaps", type=float, default=10_000, help="swaps/s that are wanted")
    parser.add_argument("--identities", type=int, default=100_000)
    parser.add_argument("--share", type=float, default=0.7, help="of a box's capacity, in the long run")
    parser.add_argument("--per-bundle", type=int, default=1000, help="most identities on a box")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a report of benchmarks.serving")
    parser.add_argument("--case", default="250 px photo", help="which of its rows")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "demo", help="for file sizes")
    asked = parser.parse_args(arguments)
    if asked.swaps <= 0 or asked.identities < 1 or asked.per_bundle < 1 or not 0 < asked.share <= 1:
        parser.error("--swaps, --identities and --per-bundle must be positive, --share above 0 and at most 1")
    try:
        box = box_of(json.loads(asked.results.read_text()), asked.case)
        manifest = Bundle.open(asked.bundle).manifest
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        told = f"{asked.results} is no report of benchmarks.serving: {error!r}"
        sys.stderr.write(f"benchmarks.sizing: {told}\n")
        return 2
    except (OSError, ValueError, BundleError) as error:
        sys.stderr.write(f"benchmarks.sizing: {error}\n")
        return 2
    wanted = Wanted(asked.swaps, asked.identities, asked.share, asked.per_bundle)
    sys.stdout.write(table(box, wanted, manifest))
    return 0


if __name__ == "__main__":
    sys.exit(main())
