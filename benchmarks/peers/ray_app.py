"""Ray Serve: two replicas with one CPU each, batches of what waits."""

from __future__ import annotations

import signal
import threading

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.work import MAX_BATCH, PNG, WORKERS, Work, host, port
from faceswap.faces import Pixels


@serve.deployment(num_replicas=WORKERS, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=64)
class Swap:
    def __init__(self) -> None:
        self.work = Work()

    async def __call__(self, request: Request) -> Response:
        face = await self.infer(self.work.read(await request.body()))
        return Response(self.work.write(face), media_type=PNG)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.0)
    async def infer(self, crops: list[Pixels]) -> list[Pixels]:
        return self.work.infer(crops)


def main() -> None:
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    # the proxy and the controller take no core of their own
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": host(), "port": port()}, logging_config={"enable_access_log": False})
    serve.run(Swap.bind(), route_prefix="/swap")
    over.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
