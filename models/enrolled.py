"""The report of many enrolments: who came out how, and why somebody did not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.bars import progress_bar
from models.checkpoint import Checkpoint
from models.enrol import Enrolment
from models.errors import TrainingError

log = logging.getLogger("models.enrolled")
REPORT = "enrolled.json"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What came of one person: a row of the report. `seconds` are those of training."""

    name: str
    crops: int = 0
    updates: int = 0
    seconds: float = 0.0
    loss: float | None = None
    error: str | None = None
    """One line, where the run failed."""


Work = Callable[[Checkpoint, Enrolment], Enrolled]


def collect(results: Iterable[Enrolled], jobs: list[Enrolment]) -> None:
    """Writes `enrolled.json`, name -> row, beside the runs of `jobs` while `results` come in.

    Rows of an earlier start stay until they are replaced. TrainingError at the end if anybody failed.
    """
    path = jobs[0].out.parent / REPORT
    rows = _rows(path)
    failed: list[str] = []
    with progress_bar(total=len(jobs), unit="person") as bar:
        for person in results:
            rows[person.name] = asdict(person)
            _write(path, rows)
            if person.error:
                failed.append(person.name)
                log.warning("%s failed: %s", person.name, person.error)
            bar.set_postfix_str(f"{person.name}, {len(failed)} failed", refresh=False)
            bar.update()
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(jobs)} failed, {path} says why: {', '.join(sorted(failed))}"
        )


def _rows(path: Path) -> dict[str, Any]:
    """Those of an earlier start; a damaged report is begun anew."""
    try:
        rows = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return rows if isinstance(rows, dict) else {}


def _write(path: Path, rows: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    partial.replace(path)
