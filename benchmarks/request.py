"""python -m benchmarks.request: processor time of a request beside the networks, which cost nothing here.

In one process and without sockets, so a busy machine disturbs it little: what the service itself does from
the head of a request to its answer, with the pictures read and written.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from starlette.types import Message, Scope

from benchmarks.load import FORM, multipart
from benchmarks.pictures import Upload, photo, ready_crop
from benchmarks.progress import each
from faceswap.faces import Pixels, Swapped
from faceswap.swapper import Latents, Swapper
from service.app import create_app
from service.lifecycle import Phase
from service.parts import Parts
from service.settings import Settings

ROUNDS = 10


class WithoutNetworks(Swapper):
    """The swapper of a bundle, whose every answer is the last crop."""

    def encode(self, crops: Pixels) -> Latents:
        self._crop = crops[0]
        return np.zeros((len(crops), *self._latent_shape), np.float32)

    def decode_faces(self, latents: Latents, identity: str) -> list[Swapped]:  # noqa: ARG002
        return [Swapped(self._crop)] * len(latents)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    query: str
    body: bytes
    media_type: str
    status: int = 200


def cases(crop: Upload, whole: Upload) -> Iterator[Case]:
    """The last one is for a service that is full."""
    yield Case("64 px crop, raw body", crop.query, crop.picture, crop.media_type)
    yield Case("64 px crop, form", crop.query, multipart(crop.picture), FORM)
    yield Case(f"{whole.name}, raw body", whole.query, whole.picture, whole.media_type)
    yield Case("a wrong parameter: 422", f"{crop.query}&face=x", crop.picture, crop.media_type, 422)
    yield Case("no place: 503", crop.query, multipart(crop.picture), FORM, 503)


async def ask(app: FastAPI, case: Case) -> None:
    """One request in the words of ASGI. RuntimeError for another answer than that of `case`."""
    body: list[Message] = [{"type": "http.request", "body": case.body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        return body.pop() if body else await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        sent.append(message)

    headers = {"host": "localhost", "content-type": case.media_type, "content-length": str(len(case.body))}
    scope: Scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/swap", "raw_path": b"/swap", "root_path": "", "query_string": case.query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await app(scope, receive, send)
    if sent[0]["status"] != case.status:
        raise RuntimeError(f"{case.name}: {sent[0]['status']} {sent[-1].get('body', b'')[:200]!r}")


async def microseconds(app: FastAPI, case: Case, count: int) -> float:
    """Processor time of all threads for one request: the best of some rounds."""
    taken = []
    for _ in range(ROUNDS):
        before = time.process_time()
        for _ in range(count):
            await ask(app, case)
        taken.append((time.process_time() - before) / count)
    return 1e6 * min(taken)


async def _warm(parts: Parts) -> None:
    for _ in range(1000):
        if parts.lifecycle.phase is Phase.READY:
            return
        await asyncio.sleep(0.01)
    raise RuntimeError("the service did not become ready")


async def measure(bundle: Path, count: int) -> dict[str, float]:
    """Microseconds by the names of the cases."""
    swapper = WithoutNetworks.open(bundle, threads=1)
    identity = swapper.identities[0]
    app = create_app(Settings(bundle=bundle, workers=1, image_threads=1), swapper)
    parts: Parts = app.state.parts
    found: dict[str, float] = {}
    async with app.router.lifespan_context(app):
        await _warm(parts)
        wanted = list(cases(ready_crop(swapper, identity), photo(identity)))
        for case in each(wanted, len(wanted), "case"):
            if case.status == 503:
                parts.admission.images = parts.admission.taken = 1
            found[case.name] = await microseconds(app, case, count)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.request", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--count", type=int, default=100, help=f"requests of each of the {ROUNDS} rounds")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    try:
        for name, taken in asyncio.run(measure(options.bundle, options.count)).items():
            sys.stdout.write(f"{name:26} {taken:7.0f} us\n")
    finally:
        logging.disable(logging.NOTSET)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
