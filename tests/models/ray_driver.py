"""For test_enrol_many: python -m tests.models.ray_driver BASE FOLDER enrols FOLDER/people on a small Ray.

Ann's process is killed once in the middle of her run, Cyd's always.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from models.checkpoint import Checkpoint
from models.enrol import ENROL, Enrolment
from models.enrol_many import enrol_one
from models.enrol_on_ray import on_ray
from models.enrolled import Enrolled, collect
from models.errors import TrainingError


def work(base: Checkpoint, job: Enrolment) -> Enrolled:
    """Leaves a mark for each try."""
    folder = job.out.parents[1]
    tries = folder / f"{job.name}.tries"
    with tries.open("a") as file, (folder / "threads").open("a") as threads:
        file.write("x")
        threads.write(f"{torch.get_num_threads()}\n")
    if job.name == "ann" and tries.read_text() == "x":
        enrol_one(base, replace(job, config=replace(job.config, updates=4)))
        os.kill(os.getpid(), signal.SIGKILL)
    if job.name == "cyd":
        os.kill(os.getpid(), signal.SIGKILL)
    return enrol_one(base, job)


def main(base: Path, folder: Path) -> None:
    config = replace(ENROL, updates=8, batch=4, pool_steps=1)
    people = sorted((folder / "people").iterdir())
    jobs = [Enrolment(person.name, person, folder / "out" / person.name, config) for person in people]
    ray = importlib.import_module("ray")  # an extra: types are checked without it
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    try:
        collect(on_ray(Checkpoint.load(base), jobs, work, retries=1), jobs)
    except TrainingError as error:
        sys.stdout.write(f"{error}\n")
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
