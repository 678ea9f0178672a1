"""Pages of the paper's figures, drawn with matplotlib: faces in labelled grids, losses over updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from faceswap.faces import Pixels
from models.errors import TrainingError
from models.paper import RECIPES

if TYPE_CHECKING:  # an extra, and slow to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = (0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
COLOURS = ("#9aa0a6", "#1f6fb4", "#d9832e", "#3f9b5c", "#a24ba0")
Curve = tuple[Sequence[float], Sequence[float]]
"""Image updates, losses."""


def figure(width: float, height: float) -> Figure:
    """An empty page, inches; no window and no global state of pyplot's."""
    try:
        from matplotlib.figure import Figure as Page
    except ImportError as error:
        raise TrainingError("figures need matplotlib: pip install -e '.[figures]'") from error
    return Page(figsize=(width, height), dpi=95, layout="constrained")


def save(page: Figure, path: Path) -> None:
    """As PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    page.savefig(partial, format="png")
    partial.replace(path)


def tiles(rows: Sequence[Tensor]) -> Pixels:
    """Rows of pictures, each (N, 3, 64, 64) in 0..255, as one picture (H, W, 3) with white lines between."""
    lines = []
    for row in rows:
        pictures = row.float().round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        framed = np.pad(pictures, ((0, 0), (0, 2), (0, 2), (0, 0)), constant_values=255)
        lines.append(np.concatenate(list(framed), axis=1))
    joined: Pixels = np.concatenate(lines)[:-2, :-2]
    return joined


def show(axes: Axes, rows: Mapping[str, Tensor], title: str = "", columns: Sequence[str] = ()) -> None:
    """A grid of faces with a name at each row, and over each column if there are any."""
    picture = tiles(list(rows.values()))
    axes.imshow(picture, interpolation="nearest")
    axes.set_yticks([66 * number + 32 for number in range(len(rows))], list(rows))
    axes.set_xticks([66 * number + 32 for number in range(len(columns))], list(columns), fontsize=8)
    axes.tick_params(length=0, top=False, labeltop=bool(columns), bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=11)


def plot(axes: Axes, curves: Mapping[str, Curve], title: str, colours: Sequence[str] = COLOURS) -> None:
    """Losses over image updates, both on logarithmic axes."""
    for (name, (updates, losses)), colour in zip(curves.items(), colours, strict=False):
        marker = "o" if len(losses) < 5 else ""
        axes.plot(updates, losses, label=name, color=colour, linewidth=1.8, marker=marker, markersize=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("image updates")
    axes.set_ylabel("loss: mean absolute error, 0..1")
    low, high = axes.get_ylim()
    shown = [tick for tick in TICKS if low <= tick <= high]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_yticks([], minor=True)
    axes.set_ylim(low, high)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    axes.set_title(title, fontsize=11)


def six(source: Tensor, outputs: Mapping[str, Tensor], notes: Mapping[str, str]) -> Figure:
    """Figure 6: the source and the five outputs, each (3, 64, 64) in 0..255, in the paper's places."""
    page = figure(7.2, 5.6)
    pictures: dict[str, Tensor] = {"source": source, **outputs}
    for axes, (name, picture) in zip(page.subplots(2, 3).flat, pictures.items(), strict=False):
        axes.imshow(tiles([picture[None]]), interpolation="nearest")
        fate = f"{name} ({RECIPES[name].fate})" if name in RECIPES else name
        axes.set_title(fate, fontsize=11)
        axes.set_xlabel(notes.get(name, ""), fontsize=8)
    for axes in page.axes:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return page


def seven(groups: Mapping[str, Mapping[str, Tensor]], title: str) -> Figure:
    """Figure 7: of each group the sources and, below, what decoders made of them."""
    across = 2 if len(groups) > 1 else 1
    down = -(-len(groups) // across)
    rows = len(next(iter(groups.values())))
    page = figure(5.2 * across, (0.5 + 1.05 * rows) * down + 0.4)
    grid = page.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (name, faces) in zip(grid.flat, groups.items(), strict=False):
        axes.axis("on")
        show(axes, faces, name)
    page.suptitle(title, fontsize=12)
    return page


def curves_and_faces(
    curves: Mapping[str, Curve], grids: Mapping[str, Mapping[str, Tensor]], title: str, first_colour: int = 0
) -> Figure:
    """Losses on the left; grids of faces on the right, one below the other.

    `first_colour` is the place in COLOURS of the first curve; grey is the shallow decoder's.
    """
    page = figure(11.5, 5.4)
    left, right = page.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.25)).flat
    plot(left.subplots(), curves, title, COLOURS[first_colour:])
    places = right.subplots(len(grids), 1, squeeze=False).flat
    for axes, (name, rows) in zip(places, grids.items(), strict=True):
        show(axes, rows, name)
    return page
