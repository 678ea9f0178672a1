"""Curves of `benchmarks.growth` as pictures: rate on the left axis, latency on the right one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Curve:
    """What grows along the x axis."""

    title: str
    axis: str


CURVES = {
    "connections": Curve("64 px crops by connections", "connections"),
    "photo_side": Curve("photos by longer side, 8 connections", "longer side, px"),
    "batch": Curve("bare graphs by batch", "faces in a batch"),
    "identities": Curve("64 px crops by identities, fp32, 8 connections", "identities"),
}


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    """One PNG for each curve. ImportError where matplotlib is missing."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for key, curve in CURVES.items():
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.set(title=curve.title, xlabel=curve.axis, ylabel="swaps/s", xscale="log")
        at = [point["at"] for point in report[key]]
        axes.set_xticks(at, [str(x) for x in at], minor=False)
        axes.minorticks_off()
        axes.plot(
            at, [point["swaps_per_s"] for point in report[key]], "o-", color="tab:blue", label="swaps/s"
        )
        axes.set_ylim(bottom=0)
        if any(point["p50_ms"] is not None for point in report[key]):
            times = axes.twinx()
            times.set(ylabel="ms", yscale="log")
            for name, style in (("p50_ms", "s--"), ("p99_ms", "^:")):
                times.plot(at, [point[name] for point in report[key]], style, color="tab:red", label=name[:3])
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        files.append(folder / f"growth-{key.replace('_', '-')}.png")
        figure.savefig(files[-1], dpi=120)
    return files
