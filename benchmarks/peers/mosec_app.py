"""mosec: two worker processes behind its Rust server, batches of what waits for at most 1 ms."""

from __future__ import annotations

import sys

from mosec import Server, Worker

from benchmarks.peers.work import MAX_BATCH, PNG, WORKERS, Work, host, port
from faceswap.faces import Pixels


class Swap(Worker):
    resp_mime_type = PNG

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def deserialize(self, data: bytes) -> Pixels:
        return self.work.read(data)

    def forward(self, data: list[Pixels]) -> list[Pixels]:
        return self.work.infer(data)

    def serialize(self, data: Pixels) -> bytes:
        return self.work.write(data)


if __name__ == "__main__":
    sys.argv += ["--address", host(), "--port", str(port()), "--timeout", "60000", "--log-level", "warning"]
    server = Server()
    server.append_worker(Swap, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=1, route="/swap")
    server.run()
