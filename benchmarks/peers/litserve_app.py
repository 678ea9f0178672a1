"""LitServe: two workers, batches of what waits (batch_timeout, here 1 ms, is what one face may wait)."""

# No `from __future__ import annotations`: LitServe reads the annotations of decode_request as they are.
from collections.abc import Sequence
from typing import Annotated

import litserve
from fastapi import Depends, Request, Response

from benchmarks.peers.work import MAX_BATCH, PNG, WORKERS, Work, host, port
from faceswap.faces import Pixels


async def body(request: Request) -> bytes:
    return await request.body()


class SwapAPI(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.work = Work()

    def decode_request(self, request: Annotated[bytes, Depends(body)]) -> Pixels:
        return self.work.read(request)

    def batch(self, inputs: Sequence[Pixels]) -> Sequence[Pixels]:
        return inputs

    def predict(self, x: Sequence[Pixels]) -> Sequence[Pixels]:
        return self.work.infer(x)

    def unbatch(self, output: Sequence[Pixels]) -> Sequence[Pixels]:
        return output

    def encode_response(self, output: Pixels) -> Response:
        return Response(self.work.write(output), media_type=PNG)


if __name__ == "__main__":
    api = SwapAPI(api_path="/swap", max_batch_size=MAX_BATCH, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS)
    server.run(host=host(), port=port(), generate_client_file=False, log_level="warning", access_log=False)
