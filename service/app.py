"""create_app: the service put together from its parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from faceswap.errors import DeviceError, SwapError
from faceswap.sessions import Device
from service import (
    admin,
    docs_page,
    exposition,
    finding,
    health,
    page,
    problems,
    routes,
    stream_route,
    tracing,
    v2_routes,
)
from service.admission import Admission, Seats
from service.batches import BatchPipeline
from service.batching import Batcher
from service.cors import Cors
from service.doors import Doors
from service.frames import FramePipeline
from service.gauges import Gauges
from service.keyring import Keyring
from service.library import PhotoSwapper
from service.lifecycle import Lifecycle
from service.loading import Loader
from service.metrics import Metrics
from service.openapi import DescribedApp
from service.parts import Parts
from service.pool import ImagePool
from service.provenance import PhotoSigner
from service.reloading import Reloader
from service.safety import SafeHeaders
from service.settings import Settings
from service.shortcut import Shortcut
from service.swapping import SwapPipeline
from service.telemetry import Clock, Telemetry
from service.v2_errors import V2Errors

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SILENT: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own would export what was sent, with the messages of errors; ours is in service/tracing.py."""
STATIC = Path(__file__).parent / "static"
DESCRIPTION = "Swaps faces in photos. Every answer is marked as synthetic; errors are RFC 9457 problems."

log = logging.getLogger("faceswapd.app")


def create_app(settings: Settings, swapper: PhotoSwapper) -> FastAPI:
    """The app around an opened swapper. It warms the networks by itself once it runs."""
    parts = _parts(settings, swapper)
    gauges = Gauges(parts.metrics.registry)
    tracer = tracing.provider(parts.version) if tracing.is_wanted() else None
    # The usual /docs page loads its scripts from a CDN; docs_page has them here.
    app = DescribedApp(
        title="faceswapd",
        version=parts.version,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(parts, gauges, tracer),
        telemetry=SILENT,
    )
    app.state.parts, app.state.gauges = parts, gauges
    # the first is the innermost
    app.add_middleware(Shortcut, parts=parts)
    app.add_middleware(Doors, settings=settings, keyring=parts.keyring)
    if settings.cors_origins:
        app.add_middleware(Cors, origins=settings.cors_origins)
    app.add_middleware(Telemetry, metrics=parts.metrics)
    if tracer is not None:
        app.add_middleware(tracing.Tracing, provider=tracer, version=parts.version)
    app.add_middleware(V2Errors)
    app.add_middleware(SafeHeaders)
    problems.register(app)
    app.include_router(routes.router)
    app.include_router(finding.router)
    app.include_router(stream_route.router)
    app.include_router(health.router)
    app.include_router(v2_routes.router)
    app.include_router(exposition.router)
    app.include_router(admin.router)
    docs_page.mount(app, docs_page.swagger_ui())
    page.mount(app, STATIC)
    return app


def _parts(settings: Settings, swapper: PhotoSwapper) -> Parts:
    pool = ImagePool(settings.image_thread_count())
    workers = settings.worker_count(swapper.provider)
    max_batch = settings.batch_limit(swapper.provider)
    metrics = Metrics()
    loader = Loader(settings.loader_count(), told=metrics.loaded)
    batcher = Batcher(workers, max_batch, settings.batch_window_ms / 1000, metrics.timed)
    pipeline = SwapPipeline(
        swapper,
        loader,
        batcher,
        pool,
        max_pixels=settings.max_pixels,
        decode_bytes=settings.decode_bytes,
        deadline_s=settings.deadline_ms / 1000,
        photos_in_memory=settings.photos_in_memory or settings.image_thread_count(),
        signer=PhotoSigner.of(settings, _version()),
    )
    lifecycle = Lifecycle()
    admission = Admission(settings.queue_images, settings.queue_bytes)
    share = settings.batch_share_limit(swapper.provider)
    return Parts(
        settings=settings,
        keyring=Keyring(settings),
        lifecycle=lifecycle,
        admission=admission,
        batcher=batcher,
        loader=loader,
        reloader=Reloader(pipeline, loader, lifecycle, settings.bundle, metrics.loaded),
        batches=BatchPipeline(admission, share, settings.max_body_bytes),
        frames=FramePipeline(pool, settings.stream_pixels, settings.deadline_ms / 1000),
        seats=Seats(settings.streams),
        pool=pool,
        metrics=metrics,
        version=_version(),
        workers=workers,
    )


def _lifespan(
    parts: Parts, gauges: Gauges, tracer: TracerProvider | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.batcher.start()
        # In the background: /health/live answers and /health/ready says 503 meanwhile.
        warming = asyncio.create_task(_warm_up(parts))
        try:
            async with exposition.shared(parts, gauges):
                yield
        finally:
            parts.lifecycle.drain()
            warming.cancel()
            parts.reloader.stop()
            await asyncio.to_thread(parts.batcher.stop)
            parts.loader.stop()
            parts.pool.stop()
            if tracer is not None:
                await asyncio.to_thread(tracer.shutdown)

    return lifespan


async def _warm_up(parts: Parts) -> None:
    try:
        _check_provider(parts)
        await parts.pool.run(Clock(), parts.swapper.warm_up)
    except Exception as error:
        log.critical("cannot start: %s", error, exc_info=None if isinstance(error, SwapError) else error)
        parts.lifecycle.failed()
    else:
        parts.lifecycle.warmed()


def _check_provider(parts: Parts) -> None:
    """Asked for CUDA and running on the CPU is a failure, not a slow success."""
    if parts.settings.device is Device.CUDA and not parts.swapper.provider.startswith("CUDA"):
        raise DeviceError(f"device cuda was asked for, the networks run on {parts.swapper.provider}")


def _version() -> str:
    try:
        return version("faceswapd")
    except PackageNotFoundError:  # run from a plain folder
        return "0"
