"""A swapper without networks, and an app around it that tests can call in-process."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import uvicorn
from fastapi import FastAPI
from PIL import Image as PillowImage

from faceswap.blending import pasted
from faceswap.bundle import FileEntry, IdentityEntry, Manifest
from faceswap.errors import NoFaceError, NoSuchFaceError, UnknownIdentityError, WrongCropSizeError
from faceswap.faces import Box, Crop, Face, Image, Landmarks, Pixels, Swapped
from faceswap.precisions import Precision
from service.app import create_app
from service.crowd import Crowd
from service.lifecycle import Phase
from service.parts import Parts
from service.settings import Settings
from service.shedding import Shedder
from service.wire import protocols

Latents = npt.NDArray[np.float32]
PREVIEW = b"\x89PNG the preview"


def _file(path: str, data: bytes = b"?") -> dict[str, Any]:
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _identity(name: str, preview: bool) -> dict[str, Any]:
    return {
        "name": name,
        "decoder": _file(f"decoders/{name}.onnx"),
        "encoder_sha256": "0" * 64,
        "preview": _file(f"previews/{name}.png", PREVIEW) if preview else None,
        "parity": {"samples": 8, "mean_error": 0.1, "max_error": 1, "tolerance": 2},
        "licence": "CC0-1.0",
        "consent": {"kind": "synthetic", "given_by": "nobody", "date": "2026-01-31", "purpose": "tests"},
        "training": {"steps": 20},
        "metrics": {"ssim": 0.9},
    }


MANIFEST = Manifest.model_validate(
    {
        "schema_version": 1,
        "name": "fake",
        "created": "2026-01-31T12:00:00Z",
        "generator": "tests",
        "opset": 17,
        "crop": {"size": 64, "template": [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.4, 0.7], [0.6, 0.7]]},
        "latent": {"channels": 3, "height": 64, "width": 64},
        "encoder": {
            "graph": _file("encoder.onnx"),
            "weights_sha256": "0" * 64,
            "parity": {"samples": 8, "mean_error": 0, "max_error": 0, "tolerance": 1},
            "licence": "CC0-1.0",
            "training": {},
        },
        "identities": [_identity("echo", True), _identity("negative", False)],
    }
)


class FakeDecoders:
    """All are in memory, but those that are in `cold`."""

    pinned: tuple[str, ...] = ()
    bytes = 3 * 2**20
    limit_bytes: int | None = None

    def __init__(self) -> None:
        self.cold: set[str] = set()

    @property
    def loaded(self) -> list[str]:
        return [entry.name for entry in MANIFEST.identities if entry.name not in self.cold]


class FakeShelf:
    def read(self, entry: FileEntry) -> bytes:
        assert entry.path.startswith("previews/")
        return PREVIEW

    def identity(self, name: str) -> IdentityEntry:
        known = {entry.name: entry for entry in MANIFEST.identities}
        if name not in known:
            raise UnknownIdentityError(name, known)
        return known[name]


def nothing(*_: object) -> None:
    pass


class FakeSwapper:
    """Identity `echo` gives the crop back, `negative` its negative. A dark photo has no face, any other one.

    `on_encode`, `on_decode` and the like run first in their step: there a test waits, fails or takes notes.
    """

    provider = "CPUExecutionProvider"
    precision = Precision.FP32
    failure: str | None = None
    bundle = FakeShelf()

    def __init__(self) -> None:
        self.manifest = MANIFEST
        self.decoders = FakeDecoders()
        self.held: list[str] = []
        self.took_over = False
        self.on_load: Callable[[str], None] = nothing
        self.on_reopen: Callable[[Path], FakeSwapper] = lambda _: FakeSwapper()
        self.on_encode: Callable[[Pixels], None] = nothing
        self.on_decode: Callable[[Latents, str], None] = nothing
        self.on_warm_up: Callable[[], None] = nothing
        self.on_find: Callable[[], None] = nothing
        self.followed = 0

    def precision_of(self, identity: str) -> Precision:
        return self.precision if self.bundle.identity(identity) else Precision.FP32

    def check(self, identity: str) -> None:
        self.bundle.identity(identity)

    @contextmanager
    def hold(self, identity: str) -> Iterator[None]:
        self.check(identity)
        self.held.append(identity)
        try:
            yield
        finally:
            self.held.remove(identity)

    def is_loaded(self, identity: str) -> bool:
        return identity not in self.decoders.cold

    def load(self, identity: str) -> None:
        self.on_load(identity)
        self.decoders.cold.discard(identity)

    def reopened(self, bundle: Path) -> FakeSwapper:
        return self.on_reopen(bundle)

    def take_over(self) -> None:
        self.took_over = True

    def find_face(self, image: Image, index: int = 0) -> Face:
        self.on_find()
        if image.pixels.mean() < 10:
            raise NoFaceError("no face was found; try a brighter photo")
        if index:
            raise NoSuchFaceError(f"face {index} was asked for, the photo has 1")
        box = Box(0, 0, image.width / 2, image.height)
        return Face(box, Landmarks(np.ones((5, 2))), 0.97)

    def follow(self, image: Image, last: Face) -> Face | None:
        self.followed += 1
        return None if image.pixels.mean() < 10 else last

    def align(self, image: Image, face: Face) -> Crop:
        assert face.score > 0
        small = PillowImage.fromarray(image.pixels).resize((64, 64))
        scale = np.array([[64 / image.width, 0, 0], [0, 64 / image.height, 0]])
        return Crop(np.asarray(small), scale)

    def ready_crop(self, image: Image) -> Crop:
        if image.pixels.shape != (64, 64, 3):
            raise WrongCropSizeError(f"a ready crop is 64x64, this is {image.width}x{image.height}")
        return Crop(image.pixels, np.eye(2, 3))

    def encode(self, crops: Pixels) -> Latents:
        self.on_encode(crops)
        return crops.astype(np.float32).transpose(0, 3, 1, 2)

    def decode_faces(self, latents: Latents, identity: str) -> list[Swapped]:
        self.on_decode(latents, identity)
        faces: Pixels = latents.transpose(0, 2, 3, 1).astype(np.uint8)
        return [Swapped.of(face) for face in (255 - faces if identity == "negative" else faces)]

    def pasted(
        self, photo: Image, crop: Crop, face: Pixels, mask: Pixels | None = None
    ) -> AbstractContextManager[Image]:
        return pasted(photo, crop, face, mask)

    def warm_up(self) -> None:
        self.on_warm_up()


class Gate:
    """Holds worker threads until it is opened; `entered` tells that one has come."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def __call__(self, *_: object) -> None:
        self.entered.set()
        assert self._open.wait(20), "nobody opened the gate"

    def open(self) -> None:
        self._open.set()

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 20), "nobody came to the gate"


def photo(
    size: tuple[int, int] = (64, 64), format: str = "PNG", grey: int | None = None, **options: Any
) -> bytes:
    """A picture file: smooth colours, or one flat `grey`."""
    width, height = size
    x, y = np.meshgrid(np.linspace(40, 220, width), np.linspace(30, 200, height))
    pixels = np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8)
    if grey is not None:
        pixels[:] = grey
    stream = io.BytesIO()
    PillowImage.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


def opened(data: bytes) -> PillowImage.Image:
    return PillowImage.open(io.BytesIO(data))


async def until(condition: Callable[[], bool]) -> None:
    """Waits, at most some seconds, for what another thread or task will bring about."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


def parts_of(app: FastAPI) -> Parts:
    parts: Parts = app.state.parts
    return parts


def make_app(swapper: FakeSwapper | None = None, **settings: Any) -> FastAPI:
    return create_app(Settings(**{"workers": 1, **settings}), swapper or FakeSwapper())


@asynccontextmanager
async def serving(app: FastAPI, until_warm: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app`, which runs inside this process."""
    async with app.router.lifespan_context(app):
        if until_warm:
            await until(lambda: parts_of(app).lifecycle.phase is not Phase.STARTING)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            yield client


async def post(client: httpx.AsyncClient, data: bytes | None = None, **query: Any) -> httpx.Response:
    """POST /swap with `data` as the multipart field `image`."""
    files = {"image": ("photo.png", photo() if data is None else data, "image/png")}
    return await client.post("/swap", params={"target": "echo", **query}, files=files)


@contextmanager
def listening(
    app: FastAPI, sheds: bool = False, send_buffer: int | None = None
) -> Iterator[tuple[int, Parts]]:
    """The app behind uvicorn on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        parts = parts_of(app)
        http, _ = protocols(Crowd(parts.settings), Shedder(parts) if sheds else None)
        server = uvicorn.Server(uvicorn.Config(app, http=http, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield listener.getsockname()[1], parts
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive(), "the server ends once it is told to"
