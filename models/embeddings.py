"""Many faces judged: over several processes, and real photos only once.

dlib keeps Python's global lock while it works (0.09 s a face), so threads gain nothing and processes do.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np

from faceswap.faces import Pixels
from models.bars import progress_bar
from models.judge import Embedding, Judge
from models.metrics import Faces, Floats

log = logging.getLogger(__name__)
WIDTH = 128
MIN_SHARE = 32
"""Fewer faces than this are not worth the two seconds in which a process starts."""
_judge: Judge | None = None
"""The judge of a worker process."""


class Cache:
    """Embeddings by the content of the picture, in one .npz file that may be deleted at any time."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._known: dict[bytes, Embedding] = dict(_read(path)) if path is not None else {}
        self._fresh = False

    def get(self, key: bytes) -> Embedding | None:
        return self._known.get(key)

    def put(self, key: bytes, embedding: Embedding) -> None:
        self._known[key] = embedding
        self._fresh = True

    def save(self) -> None:
        """Through a neighbour file: a crash leaves the old cache whole."""
        if self.path is None or not self._fresh:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        keys = np.frombuffer(b"".join(self._known), np.uint8).reshape(-1, 32)
        with partial.open("wb") as file:
            np.savez(file, keys=keys, embeddings=np.stack(list(self._known.values())))
        partial.replace(self.path)
        self._fresh = False


def _read(path: Path) -> Iterator[tuple[bytes, Embedding]]:
    if not path.exists():
        return
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            keys, embeddings = content["keys"], content["embeddings"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s cannot be read as a cache (%s); it is made anew", path, type(error).__name__)
        return
    yield from zip([key.tobytes() for key in keys], embeddings, strict=True)


class Embedder:
    """Embeds with the judge that `make` makes, here or in `processes` others; a context manager."""

    def __init__(
        self, make: Callable[[], Judge], cache: Path | None = None, processes: int | None = None
    ) -> None:
        self._make, self._here = make, make()
        self.name = self._here.name
        self.processes = processes or min(cores(), 16)
        self._cache = Cache(cache)
        self._pool: ProcessPoolExecutor | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._pool = None

    def embed(self, crops: Faces, what: str = "faces", *, keep: bool = False) -> Floats:
        """(N, 64, 64, 3) -> (N, 128). With `keep`, for photos that come again, through the cache."""
        keys = [self._key(crop) for crop in crops]
        known = [self._cache.get(key) for key in keys]
        missing = [crop for crop, embedding in zip(crops, known, strict=True) if embedding is None]
        fresh = iter(self._judge_all(missing, what))
        embeddings = [embedding if embedding is not None else next(fresh) for embedding in known]
        if keep and missing:
            for key, embedding in zip(keys, embeddings, strict=True):
                self._cache.put(key, embedding)
            self._cache.save()
        return np.stack(embeddings) if embeddings else np.empty((0, WIDTH))

    def _key(self, crop: Pixels) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\0" + np.ascontiguousarray(crop).tobytes()).digest()

    def _judge_all(self, crops: list[Pixels], what: str) -> list[Embedding]:
        quiet = len(crops) < MIN_SHARE
        bar = progress_bar(total=len(crops), desc=what, unit="face", disable=quiet)
        with bar:
            answers = []
            for embedding in self._answers(crops):
                answers.append(embedding)
                bar.update()
        return answers

    def _answers(self, crops: list[Pixels]) -> Iterator[Embedding]:
        if self.processes == 1 or len(crops) < MIN_SHARE * 2:
            return map(self._here.embed, crops)
        if self._pool is None:
            # spawned: a fork of a process with onnxruntime's and torch's threads may hang
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(self.processes, context, _start, (self._make,))
            self._pool = self._stack.enter_context(pool)
        return self._pool.map(_embed, crops, chunksize=8)


def cores() -> int:
    """How many this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _start(make: Callable[[], Judge]) -> None:
    global _judge
    _judge = make()


def _embed(crop: Pixels) -> Embedding:
    if _judge is None:
        raise RuntimeError("a worker process without a judge")
    return _judge.embed(crop)
