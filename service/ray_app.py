"""The service on Ray Serve: the same app in every replica, each with networks of its own (extra `ray`).

python -m service.ray_app             FACESWAPD_HOST, FACESWAPD_PORT; joins RAY_ADDRESS or starts a Ray
python -m service.ray_app --reload    every replica serves what the bundle's folder holds now
serve build service.ray_app:application   the same as a file for `serve deploy` and KubeRay
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from faceswap import BundleError, DeviceError, Swapper
from faceswap.errors import SwapError
from service.app import create_app
from service.errors import NotLiveError, ServiceError, StartingError
from service.lifecycle import Phase
from service.parts import Parts
from service.ray_routing import ByIdentity
from service.ray_settings import NAME, RaySettings
from service.settings import Settings, complaint
from service.telemetry import Clock

# An extra: types are checked without it.
ray: Any = importlib.import_module("ray")
serve: Any = importlib.import_module("ray.serve")

PROXY_CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
WARM_NAMES = 256
"""So many of a replica's identities the routers know. FACESWAPD_DECODER_MEMORY_MIB says how many stay."""
_TICK_S = 0.05


@serve.ingress()
class Replica:
    """One process with an open bundle; Ray builds the app after the constructor."""

    def __init__(self, settings: Settings) -> None:
        swapper = Swapper.open(
            settings.bundle,
            settings.device,
            settings.threads,
            settings.precision,
            settings.decoder_bytes(),
            settings.pinned,
        )
        self._asgi = create_app(settings, swapper)
        self._parts: Parts = self._asgi.state.parts
        self._asgi.add_middleware(Warmed, self.warm)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._asgi

    async def check_health(self) -> None:
        """Raises where /health/live would say 503: Ray then replaces the replica. The first call waits."""
        # A plain attribute: nothing could be awaited, see service/lifecycle.py.
        while self._parts.lifecycle.phase is Phase.STARTING:  # noqa: ASYNC110
            await asyncio.sleep(_TICK_S)
        if self._parts.lifecycle.phase is Phase.FAILED:
            raise StartingError
        if dead := self._parts.batcher.dead_workers():
            raise NotLiveError(dead)

    async def reload(self) -> dict[str, Any]:
        """What /admin/reload answers, or `refused` and why; the old bundle then goes on."""
        try:
            return (await self._parts.reloader.reload()).model_dump()
        except ServiceError as error:
            return {"refused": str(error)}

    @serve.multiplexed(max_num_models_per_replica=WARM_NAMES)  # type: ignore[untyped-decorator]  # an extra
    async def warm(self, identity: str) -> str:
        """Loads the identity; Ray tells its routers that this replica has it."""
        await self._parts.loader.warm(self._parts.swapper, identity, Clock())
        return identity


class Warmed:
    """In a replica: what the router was told by the header is true before the request goes on."""

    def __init__(self, app: ASGIApp, warm: Any) -> None:
        self._app = app
        self._warm = warm

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (identity := serve.get_multiplexed_model_id()):
            with suppress(SwapError):  # the request itself will tell
                await self._warm(identity)
        await self._app(scope, receive, send)


def in_the_proxy() -> list[Middleware]:
    """What RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names, where Ray's proxies start."""
    return [Middleware(ByIdentity)]


def application(_: dict[str, str] | None = None) -> Any:
    """By the environment's settings; for `serve run` and `serve build`."""
    settings, how = Settings(), RaySettings()
    deployment = serve.deployment(**how.options(settings))(Replica)
    return deployment.bind(how.of_a_replica(settings))


def start(settings: Settings) -> None:
    """Proxy and replicas, until every one is healthy."""
    serve.start(http_options={"host": settings.host, "port": settings.port})
    serve.run(application(), name=NAME, route_prefix="/")


def reload() -> list[dict[str, Any]]:
    """What each replica answers."""
    return list(serve.get_deployment_handle(NAME, NAME).broadcast("reload").results())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m service.ray_app", description=__doc__)
    parser.add_argument("--reload", action="store_true", help="of a running service")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = Settings()
        os.environ.setdefault(PROXY_CALLBACK, f"{__name__}:in_the_proxy")
        ray.init(address="auto" if options.reload else None, log_to_driver=not options.reload)
        if options.reload:
            answers = reload()
            sys.stdout.writelines(f"{answer}\n" for answer in answers)
            return 1 if any("refused" in answer for answer in answers) else 0
        start(settings)
    except ValidationError as error:
        sys.stderr.write(f"faceswapd: {complaint(error)}\n")
        return 2
    except (BundleError, DeviceError, ConnectionError, RuntimeError) as error:
        sys.stderr.write(f"faceswapd: {error}\n")
        return 2
    sys.stdout.write(f"faceswapd is ready on Ray: http://{settings.host}:{settings.port}\n")
    sys.stdout.flush()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    over.wait()
    serve.shutdown()
    return 0


if __name__ == "__main__":  # by its name: Ray's processes must find the classes again
    sys.exit(importlib.import_module("service.ray_app").main())
