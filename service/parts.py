"""What the routes work with: made once by `create_app`, handed in by dependency, never global."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, cast

from fastapi import Depends, Request

from service.admission import Admission, Seats
from service.batches import BatchPipeline
from service.batching import Batcher
from service.frames import FramePipeline
from service.keyring import Keyring
from service.library import PhotoSwapper
from service.lifecycle import Lifecycle
from service.loading import Loader
from service.metrics import Metrics
from service.pool import ImagePool
from service.queries import Queries
from service.reloading import Reloader
from service.settings import Settings
from service.swapping import SwapPipeline


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """One of each per app."""

    settings: Settings
    keyring: Keyring
    lifecycle: Lifecycle
    admission: Admission
    batcher: Batcher
    loader: Loader
    reloader: Reloader
    batches: BatchPipeline
    frames: FramePipeline
    seats: Seats
    pool: ImagePool
    metrics: Metrics
    version: str
    workers: int
    queries: Queries = field(default_factory=Queries)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def pipeline(self) -> SwapPipeline:
        """Of the bundle that is served now; a request asks once, so that a reload does not split it."""
        return self.reloader.pipeline

    @property
    def swapper(self) -> PhotoSwapper:
        return self.pipeline.swapper


async def _parts(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)


TheParts = Annotated[Parts, Depends(_parts)]
