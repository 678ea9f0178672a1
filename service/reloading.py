"""Another bundle while the service runs: opened, proved and warmed beside the old one, then switched to."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faceswap.bundle import EncoderEntry, Manifest
from faceswap.errors import BundleError, SwapError
from service.errors import ReloadRefusedError, ReloadRunningError, ServiceError
from service.library import PhotoSwapper
from service.lifecycle import Lifecycle
from service.loading import Loader, Told
from service.schemas import Reloaded
from service.swapping import SwapPipeline

log = logging.getLogger("faceswapd.reloading")


class Reloader:
    """Has the pipeline of the bundle that is served now. For the event loop only."""

    def __init__(
        self,
        pipeline: SwapPipeline,
        loader: Loader,
        lifecycle: Lifecycle,
        folder: Path,
        told: Told = lambda _what, _done: None,
    ) -> None:
        self.pipeline = pipeline
        self._loader = loader
        self._lifecycle = lifecycle
        self._folder = folder
        self._told = told
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="reload")
        self._running = False
        self._asked_again = False
        self._task: asyncio.Task[None] | None = None

    async def reload(self) -> Reloaded:
        """Switches to what the folder holds now; photos in flight finish with what they began with.

        Raises ReloadRefusedError, and the old bundle goes on; ReloadRunningError while another one runs.
        """
        self._lifecycle.require_ready()
        if self._running:
            raise ReloadRunningError
        self._running = True
        started = time.monotonic()
        done = False
        try:
            old, fresh = self.pipeline.swapper, await self._open()
            self._switch(old, fresh)
            done = True
        except SwapError as error:
            log.error("the bundle was not reloaded, the old one goes on: %s", error)
            raise ReloadRefusedError(error) from error
        finally:
            self._running = False
            self._told("bundle", done)
        answer = difference(old.manifest, fresh.manifest, time.monotonic() - started)
        log.info("reloaded: %s", answer.model_dump_json(exclude={"unchanged"}))
        return answer

    def on_signal(self) -> None:
        """A reload in the background whose outcome is told by the log; during one, one more after it."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._reload_for_signal())
        else:
            self._asked_again = True

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _reload_for_signal(self) -> None:
        self._asked_again = True
        while self._asked_again:
            self._asked_again = False
            try:
                await self.reload()
            except ReloadRefusedError:
                continue  # the log has it
            except ServiceError as error:
                log.error("the bundle was not reloaded: %s", error)
            except Exception:
                log.exception("the bundle was not reloaded, the old one goes on")

    async def _open(self) -> PhotoSwapper:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self.pipeline.swapper.reopened, self._folder)

    def _switch(self, old: PhotoSwapper, fresh: PhotoSwapper) -> None:
        if fresh.provider != old.provider:  # workers and batches were sized for the old one
            raise BundleError(f"it runs on {fresh.provider}, the service on {old.provider}")
        self.pipeline = self.pipeline.around(fresh)
        fresh.take_over()
        # Freed with its last photo; at the end of the process there is nothing to tidy.
        weakref.finalize(old, self._loader.tidy).atexit = False


def difference(old: Manifest, new: Manifest, seconds: float) -> Reloaded:
    """What a reload has changed; an identity is replaced if anything about it differs."""
    before = {entry.name: entry for entry in old.identities}
    after = {entry.name: entry for entry in new.identities}
    both = sorted(before.keys() & after.keys())
    return Reloaded(
        bundle=new.name,
        created=new.created,
        encoder_replaced=_files(old.encoder) != _files(new.encoder),
        added=sorted(after.keys() - before.keys()),
        replaced=[name for name in both if before[name] != after[name]],
        removed=sorted(before.keys() - after.keys()),
        unchanged=sum(before[name] == after[name] for name in both),
        seconds=round(seconds, 3),
    )


def _files(encoder: EncoderEntry) -> set[str]:
    """By sha256: the graph and its variants, whose gates change with the identities too."""
    return {encoder.graph.sha256, *(variant.graph.sha256 for variant in encoder.variants.values())}
