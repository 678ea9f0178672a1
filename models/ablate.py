"""python -m models.ablate: which parts of the recipe earn their place, one short training each.

Every row starts from the same seed, data and budget and changes one thing. Rows that are done are kept
in OUT/ablations.json and not made again; OUT/ablations.md is the table.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from faceswap.detection import LibFaceDetection
from models.ablation_rows import ROWS, Ablation, load_data, load_sets, train_row
from models.embeddings import Embedder
from models.errors import DataError, TrainingError
from models.evaluation import Instruments, Ruler, Sets, Targets, evaluate
from models.groups import evaluate_exposure
from models.judge import DlibJudge
from models.metrics import Faces
from models.previews import sheet
from models.renderers import open_renderer
from models.report import COLUMNS

log = logging.getLogger("models.ablate")
RESULTS, TABLE, TRAINED = "ablations.json", "ablations.md", "trained.json"


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 if a row could not be made, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        return ablate(options)
    except (TrainingError, OSError) as error:
        sys.stderr.write(f"models.ablate: {error}\n")
        return 2


def ablate(options: argparse.Namespace) -> int:
    """Trains what is not trained yet, then measures what is not measured yet."""
    rows = chosen_rows(options.rows)
    if not options.updates and not options.minutes:
        raise TrainingError("say how long to train a row: --updates IMAGES or --minutes MINUTES")
    settings = {"updates": options.updates, "minutes": options.minutes, "seed": options.seed}
    results = open_results(options.out / RESULTS, settings)
    todo = [row for row in rows if row.name not in results["rows"]]
    untrained = [row for row in todo if not (options.out / row.name / TRAINED).exists()]
    failed = train_all(untrained, options, settings) if untrained else []
    if not options.train_only:
        measure_all([row for row in todo if row not in failed], options, results)
    return 1 if failed else 0


def chosen_rows(names: list[str] | None) -> list[Ablation]:
    """DataError for a name that there is not."""
    known = {row.name: row for row in ROWS}
    strangers = sorted(set(names or ()) - set(known))
    if strangers:
        raise DataError(f"no row is called {', '.join(strangers)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(ROWS)


def open_results(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What was measured before, which must have had the same budget and seed."""
    if not path.exists():
        return {"settings": settings, "rows": {}}
    try:
        results: dict[str, Any] = json.loads(path.read_text())
        old = results["settings"]
        results["rows"].keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no results of models.ablate; choose another --out") from error
    if old != settings:
        raise DataError(f"{path} was made with {old}; choose another --out for {settings}")
    return results


def train_all(rows: list[Ablation], options: argparse.Namespace, settings: dict[str, Any]) -> list[Ablation]:
    """Returns the rows that failed, each after a line that says why."""
    data, failed = load_data(options.people, options.general), []
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    )
    for row in rows:
        out = options.out / row.name
        log.info("%s: %s", row.name, row.change)
        try:
            facts = train_row(row, data, settings, out, device)
        except (TrainingError, RuntimeError) as error:
            log.warning("%s left out: %s", row.name, str(error).partition("\n")[0])
            failed.append(row)
            continue
        (out / TRAINED).write_text(json.dumps(facts, indent=1) + "\n")
    return failed


def measure_all(rows: list[Ablation], options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Each on the same held-out sources, the results written after each."""
    if not rows:
        log.info("%s", table(results))
        return
    names = sorted(folder.name for folder in options.people.iterdir() if folder.is_dir())
    sets, extreme = load_sets(options.sources or options.general[-1], options, names)
    with Embedder(DlibJudge, options.out / "embeddings.npz", options.processes) as embedder:
        instruments = Instruments(embedder, LibFaceDetection())
        for row in rows:
            results["rows"][row.name] = measure(row, options.out / row.name, sets, extreme, instruments)
            save_results(options.out, results)
    log.info("%s", table(results))


def measure(row: Ablation, run: Path, sets: Sets, extreme: Faces, instruments: Instruments) -> dict[str, Any]:
    """The figures of a trained row, on `sets` and on the darkest and brightest sources."""
    renderer, targets = open_renderer(run), Targets.of(sets, instruments.embedder)
    result, columns = evaluate(renderer, sets, Ruler.of(instruments, sets.sources, targets))
    sheet(columns).save(run / "swaps.png")
    exposure = evaluate_exposure(renderer, Ruler.of(instruments, extreme, targets))
    facts = json.loads((run / TRAINED).read_text())
    return {"change": row.change, **facts, **result, "exposure": exposure}


def save_results(out: Path, results: dict[str, Any]) -> None:
    """Through a neighbour file: a crash leaves the rows that were there."""
    partial = out / (RESULTS + ".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(out / RESULTS)
    (out / TABLE).write_text(table(results) + "\n")


def table(results: dict[str, Any]) -> str:
    """A line a row: means over the identities, then the worst identity on the brightest sources."""
    names = ("row", "change", "images", *COLUMNS, "worst top1", "worst top1, bright", "worst found, bright")
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    order = [row.name for row in ROWS]
    for name, row in sorted(results["rows"].items(), key=lambda item: order.index(item[0])):
        bright = [parts["brightest"] for parts in row["exposure"]["rows"].values()]
        values = [row["mean"].get(column) for column in COLUMNS]
        values += [min(identity["top1"] for identity in row["identities"].values())]
        values += [min(part[figure] for part in bright) for figure in ("top1", "face_found")]
        cells = ["-" if value is None else f"{value:.3g}" for value in values]
        lines.append(f"| {name} | {row['change']} | {row['images']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.ablate", description=__doc__)
    add = parser.add_argument
    add("--people", type=Path, required=True, help="crops of the identities, a folder each")
    add("--general", type=Path, nargs="+", required=True, help="crops of many other people")
    add("--held-out", type=Path, required=True, help="crops of the identities that are not in --people")
    add("--sources", type=Path, help="crops to swap, held-out people only (default: the last of --general)")
    add("--out", type=Path, required=True, help="folder for results and a run of each row")
    add("--rows", nargs="+", help=f"only these: {', '.join(row.name for row in ROWS)}")
    add("--minutes", type=float, help="budget of each row in minutes")
    add("--updates", type=int, help="budget of each row in image updates")
    add("--count", type=int, default=48, help="how many sources (default 48)")
    add("--others", type=int, default=200, help="how many others in the gallery (default 200)")
    add("--start", type=int, default=0, help="begin with this held-out person")
    add("--seed", type=int, default=0)
    add("--train-only", action="store_true", help="measure later, by the same command without this")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--threads", type=int, help="CPU threads")
    add("--processes", type=int, help="how many judge at once (default: one a core)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
