"""Many people enrolled one after another, or on a Ray cluster; one's bad photos stop nobody else.

A second start of the same command goes on: who is finished is skipped, an interrupted run is resumed.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from faceswap.signatures import first_line
from models.checkpoint import Checkpoint
from models.enrol import Crop, Enrolment, crop, earlier, enrol, load_base, preview_sources, schedule
from models.enrol_on_ray import find_ray, on_ray
from models.enrolled import Enrolled, collect
from models.errors import TrainingError
from models.run import CHECKPOINT

log = logging.getLogger("models.enrol_many")


def enrol_many(base: Path, jobs: list[Enrolment], *, ray: bool = False) -> None:
    """Enrols everybody of `jobs` on the encoder of `base`; with `ray` at the same time, on a cluster.

    Beside the runs lies `enrolled.json`, written after each. TrainingError at the end if anybody
    failed, and at once if `base` cannot be used.
    """
    checkpoint = load_base(base)
    checkpoint.training = {}  # of the run that made `base`: larger than all the rest
    if ray:
        find_ray()
    jobs = [_begun(job) for job in jobs]
    if ray:
        collect(on_ray(checkpoint, jobs, enrol_one), jobs)
    else:
        collect((enrol_one(checkpoint, job) for job in jobs), jobs)


def enrol_one(base: Checkpoint, job: Enrolment, crop: Crop = crop) -> Enrolled:
    """One person, from wherever their run stands; never raises for what is wrong with one person."""
    try:
        facts = _finished(base, job)
        if facts is None:
            there = (job.out / CHECKPOINT).exists()
            enrol(base, replace(job, resume=there), crop, preview_sources(base, None))
            facts = Checkpoint.load(job.out).facts
    except (TrainingError, OSError) as error:
        return Enrolled(job.name, error=first_line(error))
    except Exception as error:  # out of memory, a defect: the others still get their turn
        log.exception("%s", job.name)
        return Enrolled(job.name, error=f"{type(error).__name__}: {first_line(error)}")
    return Enrolled(job.name, facts["crops"][job.name], facts["updates"], facts["seconds"], facts["loss"])


def _begun(job: Enrolment) -> Enrolment:
    """With paths that mean the same to every process, and nothing left to overwrite: a task that is
    killed and tried again shall resume."""
    if job.overwrite:
        (job.out / CHECKPOINT).unlink(missing_ok=True)
    return replace(job, photos=job.photos.resolve(), out=job.out.resolve(), overwrite=False)


def _finished(base: Checkpoint, job: Enrolment) -> dict[str, Any] | None:
    """The facts of a run that has spent its budget, or None. CheckpointError for a run of another's."""
    if not (job.out / CHECKPOINT).exists():
        return None
    old = earlier(base, job)
    spent = schedule(job, old).share(old.facts.get("updates", 0), old.facts.get("seconds", 0.0))
    return old.facts if spent >= 1 else None
