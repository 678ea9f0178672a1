"""python -m models.figures RUN...: the paper's figures drawn from runs of its preset."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from models import figure_pages as pages
from models.errors import DataError, TrainingError
from models.figure_sources import find_sources, spread
from models.paper import RECIPES, PaperEncoder
from models.paper_data import load_photos
from models.paper_runs import DecoderState, PaperConfig, PaperRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("models.figures")
STAGES = 4
"""Pictures of a training's course in the figure of the shallow decoder, besides its end."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A run, loaded."""

    name: str
    config: PaperConfig
    encoder: PaperEncoder
    decoders: dict[str, DecoderState]
    logs: dict[str, list[dict[str, Any]]]
    shown: Tensor

    @classmethod
    def load(cls, folder: Path) -> Shown:
        run = PaperRun(folder)
        config, encoder = run.load_config(), run.load_encoder()
        if not run.decoders:
            raise DataError(f"{folder} holds no decoder yet")
        decoders = {name: run.load_decoder(name) for name in run.decoders}
        logs = {name: run.log(name) for name in decoders}
        return cls(folder.name, config, encoder, decoders, logs, run.load_shown())

    @torch.no_grad()
    def swap(self, decoder: str, rgb: Tensor) -> Tensor:
        """RGB (N, 3, 64, 64) in 0..255 -> the same shape and range."""
        face: Tensor = self.decoders[decoder].decoder(self.encoder(rgb.float()))
        return face * 255

    def curve(self, decoder: str) -> pages.Curve:
        """Without rows of less than half an epoch, from a run's end or pause: they are of few photos."""
        rows: list[dict[str, Any]] = []
        before = 0
        for row in self.logs[decoder]:
            if row["updates"] - before >= self.config.photos / 2 or not rows:
                rows.append(row)
            before = row["updates"]
        return [row["updates"] for row in rows], [row["loss"] for row in rows]

    def decent(self) -> list[str]:
        """The decoders that were meant to succeed, or whatever there is."""
        return [name for name in self.decoders if RECIPES[name].fate == "decent"] or list(self.decoders)


def draw(
    runs: list[Shown], sources: dict[str, list[Path]], out: Path, first: Path | None = None
) -> list[Path]:
    """Writes every figure that these runs have the data for; the first run is the main one.

    `first`: the source of Figure 6, else the first of all.
    """
    main, written = runs[0], []
    everything = [photo for photos in sources.values() for photo in photos]
    wanted: dict[str, Callable[[], Figure]] = {
        "figure-6": lambda: _six(main, first or everything[0]),
        "figure-7": lambda: _seven(main, sources),
        "losses": lambda: _losses(main),
    }
    if "shallow" in main.decoders:
        wanted["shallow"] = lambda: _shallow(main)
    for name, what in (("batches", "batch"), ("cropping", "uncropped")):
        if pair := _pair(runs, what):
            wanted[name] = partial(_beside, *pair, what, everything)
    for name, page in tqdm(wanted.items(), unit="figure", disable=None, leave=False):
        path = out / f"paper-{name}.png"
        pages.save(page(), path)
        written.append(path)
    return written


def _six(run: Shown, photo: Path) -> Figure:
    source, _ = load_photos([photo], run.config.uncropped)
    outputs = {name: run.swap(name, source)[0] for name in run.decoders}
    notes = {name: f"{state.updates:,} images" for name, state in run.decoders.items()}
    return pages.six(source[0], outputs, notes)


def _seven(run: Shown, sources: dict[str, list[Path]]) -> Figure:
    groups = {}
    for group, photos in sources.items():
        faces, _ = load_photos(photos, run.config.uncropped)
        groups[group] = {"source": faces, **{name: run.swap(name, faces) for name in run.decent()}}
    return pages.seven(groups, "Other faces' pose, the target's face")


def _losses(run: Shown) -> Figure:
    page = pages.figure(7.2, 4.8)
    curves = {f"{name} ({RECIPES[name].fate})": run.curve(name) for name in run.decoders}
    pages.plot(page.subplots(), curves, f"Loss of the five decoders, {_words(run.config)}")
    return page


def _shallow(run: Shown) -> Figure:
    """What more training does for the shallow one and for decent ones: losses, and a training photo."""
    names = ["shallow", *[name for name in run.decent() if name != "shallow"]]
    rows: dict[str, dict[str, Tensor]] = {}
    for name in names:
        stages = run.decoders[name].stages
        chosen = spread(sorted(stages), STAGES)
        now = run.swap(name, run.shown[1:2])[0]
        pictures = torch.stack(
            [*[stages[updates][1].float() for updates in chosen], now, run.shown[1].float()]
        )
        heading = ", ".join(f"{updates:,}" for updates in [*chosen, run.decoders[name].updates])
        rows[f"{name} after {heading} images;\nthe photo itself"] = {"": pictures}
    curves = {name: run.curve(name) for name in names}
    return pages.curves_and_faces(curves, rows, "The shallow decoder beside decent ones")


def _beside(run: Shown, other: Shown, what: str, photos: list[Path]) -> Figure:
    """Two runs that differ in one thing: their losses, a training photo and swaps."""
    common = [name for name in run.decent() if name in other.decoders]
    label_of = _batch if what == "batch" else _cropping
    chosen = photos[:: max(1, len(photos) // 5)][:5]
    if what == "uncropped":  # the same photos in both, so only those in which a face is found
        chosen = load_photos(chosen, uncropped=False)[1]
    curves, grids = {}, {}
    for name in common:
        for one in (run, other):
            label = label_of(one.config)
            curves[f"{name}, {label}"] = one.curve(name)
            faces = torch.cat([one.shown[1:2], load_photos(chosen, one.config.uncropped)[0]])
            title = f"{name}, {label}: {one.decoders[name].updates:,} images; left, one of its own photos"
            grids[title] = {"source": faces, "output": one.swap(name, faces)}
    title = f"{label_of(run.config)} and {label_of(other.config)}"
    return pages.curves_and_faces(curves, grids, title, first_colour=1)


def _pair(runs: list[Shown], what: str) -> tuple[Shown, Shown] | None:
    """The main run and the first other that differs in `what` alone and shares a decent decoder."""
    for other in runs[1:]:
        differing = [name for name in ("batch", "uncropped")
                     if getattr(runs[0].config, name) != getattr(other.config, name)]  # fmt: skip
        if differing == [what] and set(runs[0].decent()) & set(other.decoders):
            return runs[0], other
    return None


def numbers(runs: list[Shown]) -> dict[str, Any]:
    """JSON-ready: of every run its config, of every decoder its budget, rate, last loss and likeness."""
    return {
        run.name: {
            "config": asdict(run.config),
            "decoders": {
                name: {
                    "fate": RECIPES[name].fate,
                    "parameters": sum(p.numel() for p in state.decoder.parameters()),
                    "updates": state.updates,
                    "epochs": round(state.updates / run.config.photos, 1),
                    "seconds": round(state.seconds, 1),
                    "images_per_s": round(state.updates / max(state.seconds, 1e-9), 1),
                    "last_epoch_loss": run.logs[name][-1]["loss"] if run.logs[name] else None,
                    **state.results,
                }
                for name, state in run.decoders.items()
            },
        }
        for run in runs
    }


def _words(config: PaperConfig) -> str:
    return f"batch {config.batch}, {config.photos} photos {_cropping(config)}"


def _batch(config: PaperConfig) -> str:
    return f"batch {config.batch}"


def _cropping(config: PaperConfig) -> str:
    return "uncropped" if config.uncropped else "cropped"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.figures", description=__doc__)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, help="folders of paper runs, the main one first; another batch or "
        "cropping beside it gives the figures that compare")  # fmt: skip
    add("--sources", nargs="+", type=Path, required=True, help="folders of other people's photos")
    add("--per-group", type=int, default=4, help="sources of each group in Figure 7 (default 4)")
    add("--source", type=Path, help="the photo of Figure 6 (default: the first of --sources)")
    add("--out", type=Path, required=True, help="folder for the figures, paper-*.png")
    add("--numbers", type=Path, help="also write final losses, SSIM and rates to this JSON file")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        runs = [Shown.load(folder) for folder in options.runs]
        sources = find_sources(options.sources, options.per_group)
        for path in draw(runs, sources, options.out, options.source):
            log.info("%s", path)
        if options.numbers:
            options.numbers.parent.mkdir(parents=True, exist_ok=True)
            options.numbers.write_text(json.dumps(numbers(runs), indent=1) + "\n")
    except (TrainingError, OSError) as error:
        sys.stderr.write(f"models.figures: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
