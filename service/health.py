"""/health for people, /health/live and /health/ready for machines.

None of them touches a thread pool or the queue: they answer while the swap path is full.
"""

from __future__ import annotations

from fastapi import APIRouter

from faceswap import memory
from service.errors import DeviceGoneError, DrainingError, NotLiveError, StartingError
from service.library import Decoders
from service.parts import TheParts
from service.problems import responses
from service.schemas import BundleFacts, DecoderFacts, Health, Live, Ready

router = APIRouter(prefix="/health", tags=["health"])


@router.get("", summary="How the service is, for people", responses=responses())
async def health(parts: TheParts) -> Health:
    manifest = parts.swapper.manifest
    return Health(
        status=parts.lifecycle.phase.value,
        version=parts.version,
        started=parts.started,
        provider=parts.swapper.provider,
        precision=parts.swapper.precision,
        workers=parts.workers,
        dead_workers=parts.batcher.dead_workers(),
        photos=parts.admission.taken,
        photos_limit=parts.admission.images,
        memory_mib=_mib(memory.resident_bytes()),
        bundle=BundleFacts(
            name=manifest.name,
            created=manifest.created,
            schema_version=manifest.schema_version,
            identities=[entry.name for entry in manifest.identities],
        ),
        decoders=_facts(parts.swapper.decoders),
    )


def _facts(decoders: Decoders) -> DecoderFacts:
    return DecoderFacts(
        loaded=decoders.loaded,
        pinned=list(decoders.pinned),
        memory_mib=_mib(decoders.bytes) or 0.0,
        limit_mib=_mib(decoders.limit_bytes),
    )


def _mib(count: int | None) -> float | None:
    return None if count is None else round(count / 2**20, 1)


@router.get("/live", summary="Is the process alive", responses=responses(NotLiveError))
async def live(parts: TheParts) -> Live:
    """503 when a thread that runs the networks has died or hangs, or CUDA has failed: restart the process."""
    if parts.swapper.failure is not None:
        raise DeviceGoneError
    if dead := parts.batcher.dead_workers():
        raise NotLiveError(dead)
    return Live(status="live")


@router.get(
    "/ready", summary="May requests come", responses=responses(StartingError, DrainingError, NotLiveError)
)
async def ready(parts: TheParts) -> Ready:
    """503 until the networks are warmed, and again from SIGTERM on."""
    await live(parts)
    parts.lifecycle.require_ready()
    return Ready(status="ready", provider=parts.swapper.provider)
