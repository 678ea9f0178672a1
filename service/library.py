"""What the service needs of the library; `faceswap.Swapper` has it all, and so have the tests' fakes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from faceswap.bundle import FileEntry, IdentityEntry, Manifest
from faceswap.faces import Crop, Face, Image, Pixels
from faceswap.precisions import Precision
from service.inference import Networks


class Shelf(Protocol):
    """The files of a bundle."""

    def read(self, entry: FileEntry) -> bytes: ...

    def identity(self, name: str) -> IdentityEntry: ...


class Decoders(Protocol):
    """Which decoders are in memory."""

    @property
    def loaded(self) -> list[str]: ...

    @property
    def pinned(self) -> tuple[str, ...]: ...

    @property
    def bytes(self) -> int: ...

    @property
    def limit_bytes(self) -> int | None: ...


class PhotoSwapper(Networks, Protocol):
    """The part of `faceswap.Swapper` that the service needs."""

    @property
    def provider(self) -> str: ...

    @property
    def failure(self) -> str | None: ...

    @property
    def precision(self) -> Precision: ...

    def precision_of(self, identity: str) -> Precision: ...

    @property
    def manifest(self) -> Manifest: ...

    @property
    def bundle(self) -> Shelf: ...

    @property
    def decoders(self) -> Decoders: ...

    def check(self, identity: str) -> None: ...

    def hold(self, identity: str) -> AbstractContextManager[None]: ...

    def is_loaded(self, identity: str) -> bool: ...

    def load(self, identity: str) -> None: ...

    def find_face(self, image: Image, index: int = 0) -> Face: ...

    def follow(self, image: Image, last: Face) -> Face | None: ...

    def align(self, image: Image, face: Face) -> Crop: ...

    def ready_crop(self, image: Image) -> Crop: ...

    def pasted(
        self, photo: Image, crop: Crop, face: Pixels, mask: Pixels | None = None
    ) -> AbstractContextManager[Image]: ...

    def warm_up(self) -> None: ...

    def reopened(self, bundle: Path) -> PhotoSwapper: ...

    def take_over(self) -> None: ...
