"""Enrolments as tasks of a Ray cluster: several GPUs or machines, the same work as on one.

Every machine needs this package and the photos' and the output folder under the same path.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from faceswap.signatures import first_line
from models.checkpoint import Checkpoint
from models.enrol import Enrolment
from models.enrolled import Enrolled, Work
from models.errors import TrainingError

RETRIES = 3
"""Of a task whose process or machine is lost; it resumes from its own checkpoint."""
GPUS = 1.0
CPUS = 2
"""Of a task without a GPU, at least: what the ten minutes of a default run are measured with."""


def on_ray(base: Checkpoint, jobs: list[Enrolment], work: Work, retries: int = RETRIES) -> Iterator[Enrolled]:
    """Yields what `work` makes of each job, in the order in which they end.

    Joins the cluster of RAY_ADDRESS or of this machine, or starts one here. TrainingError without Ray.
    """
    ray = find_ray()
    started = not ray.is_initialized()
    if started:
        _start(ray)
    try:
        stored = ray.put(base)
        task = ray.remote(max_retries=retries, **_share(ray, len(jobs)))(_task)
        running = {task.remote(stored, job, work): job for job in jobs}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            yield _result(ray, done, running.pop(done))
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any) -> None:
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # Ray raises a bare Exception where its processes do not come up in time
        raise TrainingError(f"Ray did not start: {first_line(error)}") from error


def _task(base: Checkpoint, job: Enrolment, work: Work) -> Enrolled:
    """In a process of Ray's: on the GPU that it was given, or with as many threads as CPUs."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = find_ray().get_runtime_context().get_assigned_resources()
    if given.get("GPU"):
        return work(base, replace(job, device="cuda"))
    torch.set_num_threads(max(1, int(given.get("CPU", 1))))
    return work(base, replace(job, device="cpu"))


def _result(ray: Any, reference: Any, job: Enrolment) -> Enrolled:
    try:
        result: Enrolled = ray.get(reference)
    except ray.exceptions.RayError as error:  # lost more often than RETRIES, or it could not start
        return Enrolled(job.name, error=f"{type(error).__name__}: {first_line(error)}")
    return result


def _share(ray: Any, jobs: int) -> dict[str, float]:
    """What one task takes: a GPU if there are any, else all CPUs by the number of tasks, on one machine."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("GPU") for node in nodes):
        return {"num_gpus": GPUS, "num_cpus": 1}
    cpus = [int(node["CPU"]) for node in nodes if node.get("CPU")]
    if not cpus:
        raise TrainingError("the Ray cluster has neither GPUs nor CPUs for tasks")
    return {"num_cpus": min(max(CPUS, sum(cpus) // jobs), min(cpus))}


def find_ray() -> Any:
    """Ray itself; an extra that nothing else needs."""
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise TrainingError("--ray needs: pip install 'faceswapd[ray]'") from error
