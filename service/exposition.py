"""GET /metrics, of this process or of all that share PROMETHEUS_MULTIPROC_DIR."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service.gauges import Gauges
from service.parts import Parts, TheParts
from service.problems import responses

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client reads it when it is imported; its numbers are then in files of that folder."""
REFRESH_S = 1.0

TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus' text format, or OpenMetrics.", "content": {"text/plain": {}}}
}

router = APIRouter()


@router.get(
    "/metrics",
    tags=["health"],
    summary="Numbers for Prometheus",
    response_class=Response,
    responses=TEXT | responses(),
)
def metrics(request: Request, parts: TheParts) -> Response:
    """Not `async`: a thousand identities take some milliseconds to write."""
    gauges: Gauges = request.app.state.gauges
    gauges.refresh(parts)
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    folder = shared_folder()
    registry = parts.metrics.registry if folder is None else _of_all(folder)
    return Response(encode(registry), headers={"Content-Type": media_type, "Cache-Control": "no-store"})


def shared_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder that several processes keep their numbers in, if they are to be told together."""
    return Path(given) if (given := environment.get(VARIABLE)) else None


def prepare(folder: Path) -> None:
    """Makes the folder, and forgets the gauges of processes that have ended. OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("gauge_live*_*.db"):
        process = file.stem.rpartition("_")[2]
        if process.isdecimal() and not Path("/proc", process).exists() and Path("/proc/self").exists():
            file.unlink(missing_ok=True)


@contextmanager
def folder_for_all() -> Iterator[None]:
    """A block whose processes tell their numbers together, in a folder of its own if none was named.

    Raises OSError where no temporary folder can be made.
    """
    if shared_folder() is not None:
        yield
        return
    with TemporaryDirectory(prefix="faceswapd-metrics-") as folder:
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[VARIABLE]


@asynccontextmanager
async def shared(parts: Parts, gauges: Gauges) -> AsyncIterator[None]:
    """A block in which other processes see this one's gauges, a second old at most."""
    folder = shared_folder()
    if folder is None:
        yield
        return
    task = asyncio.create_task(_refresh(parts, gauges))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        mark_process_dead(os.getpid(), str(folder))  # type: ignore[no-untyped-call]


async def _refresh(parts: Parts, gauges: Gauges) -> None:
    while True:
        await asyncio.to_thread(gauges.refresh, parts)
        await asyncio.sleep(REFRESH_S)


def _of_all(folder: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry
