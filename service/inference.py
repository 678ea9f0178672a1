"""One batch through the networks: opened, encoded together, decoded by identity, each failure kept apart."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from faceswap.errors import BundleError, DeviceError
from faceswap.faces import Pixels, Swapped
from service.telemetry import Clock

Latents = npt.NDArray[np.float32]
Rows = npt.NDArray[Any]
T = TypeVar("T")

log = logging.getLogger("faceswapd.inference")


class Networks(Protocol):
    """The two calls that are batched; both are safe from any thread."""

    def encode(self, crops: Pixels) -> Latents:
        """(N, 64, 64, 3) RGB uint8 -> (N, C, h, w) float32."""
        ...

    def decode_faces(self, latents: Latents, identity: str) -> list[Swapped]:
        """(N, C, h, w) float32 -> N faces, with masks where the decoder has one."""
        ...


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """What else a worker does for a face: `open` gives the crop (64, 64, 3), `finish` uses the face.

    The rest of the batch waits meanwhile, so both take no longer than a small picture does. What they
    raise is the outcome of this face alone.
    """

    open: Callable[[], Pixels]
    finish: Callable[[Swapped], T]


def only_networks(crop: Pixels) -> Job[Swapped]:
    """Of a crop that is ready, the face itself."""
    return Job(lambda: crop, lambda face: face)


@dataclass(slots=True, eq=False)
class Wish:
    """One face that somebody waits for: a crop's, drawn by the decoder of `identity`.

    `done` gets what `finish` makes of it.
    """

    identity: str
    clock: Clock
    done: asyncio.Future[Any]
    finish: Callable[[Swapped], object]
    outcome: object = None


@dataclass(slots=True, eq=False)
class Item:
    """One crop (64, 64, 3) on its way and the faces wanted of it; `deadline` by time.monotonic().

    It is encoded once, and decoded by `networks` too, those of the bundle that its request began with:
    a latent fits the decoders of its own bundle only. `wishes` are those that no worker has taken yet.
    """

    networks: Networks
    open: Callable[[], Pixels]
    wishes: list[Wish]
    deadline: float
    queued: float = field(default_factory=time.monotonic)
    """When it was put into the queue, the last time: with more wishes than a batch takes it goes back."""
    latent: Rows | None = None


@dataclass(slots=True, eq=False)
class Task:
    """What one worker does of an item now."""

    item: Item
    wishes: list[Wish]

    @property
    def at_stake(self) -> list[Wish]:
        """The wishes that fail if this task does: before the item is encoded all of it."""
        return self.wishes if self.item.latent is not None else [*self.wishes, *self.item.wishes]


class Settle(Protocol):
    """Told of faces that have their outcome, or that share the `error`."""

    def __call__(self, wishes: Sequence[Wish], error: BaseException | None = None) -> None: ...


class PutBack(Protocol):
    """Told of encoded items with wishes left, so that the next free worker can decode those."""

    def __call__(self, items: Sequence[Item]) -> None: ...


def run_batch(networks: Networks, batch: Sequence[Task], settle: Settle, put_back: PutBack) -> None:
    """Every wish of `batch` is settled, those of each identity as soon as they are decoded.

    All its items are for these `networks`.
    """
    started = time.monotonic()
    for task in batch:
        for wish in task.wishes:
            wish.clock.add("queue", started - task.item.queued)
    _encode(networks, _open([task for task in batch if task.item.latent is None], settle), settle)
    put_back([task.item for task in batch if task.item.latent is not None and task.item.wishes])
    groups: dict[str, list[tuple[Wish, Rows]]] = defaultdict(list)
    for task in batch:
        for wish in task.wishes:
            if task.item.latent is not None and not wish.done.cancelled():
                groups[wish.identity].append((wish, task.item.latent))
    for identity, pairs in groups.items():
        _decode(networks, identity, pairs, settle)


def _open(tasks: Sequence[Task], settle: Settle) -> list[tuple[Task, Pixels]]:
    """The crops of items; of those that cannot be opened all wishes are settled.

    While the others are opened an item still waits.
    """
    opened: list[tuple[Task, Pixels]] = []
    own: list[float] = []
    started = before = time.monotonic()
    for task in tasks:
        try:
            opened.append((task, task.item.open()))
        except Exception as error:
            settle(task.at_stake, error)
            before = time.monotonic()
        else:
            now = time.monotonic()
            own.append(now - before)
            before = now
    for (task, _), seconds in zip(opened, own, strict=True):
        for wish in task.at_stake:
            wish.clock.add("queue", before - started - seconds)
    return opened


def _encode(networks: Networks, opened: Sequence[tuple[Task, Pixels]], settle: Settle) -> None:
    """Gives the items their latent; of those that cannot be encoded all wishes are settled."""
    if opened:
        crops = np.stack([crop for _, crop in opened])  # (N, 64, 64, 3)
        for task, latent in _apply("encode", networks.encode, [task for task, _ in opened], crops, settle):
            task.item.latent = latent


def _decode(networks: Networks, identity: str, pairs: Sequence[tuple[Wish, Rows]], settle: Settle) -> None:
    latents = np.stack([latent for _, latent in pairs])  # (N, C, h, w)
    singles = [_Single(wish) for wish, _ in pairs]
    decode = partial(networks.decode_faces, identity=identity)
    drawn = _apply("decode", decode, singles, latents, settle)
    for single, face in drawn:
        single.wish.outcome = _finished(single.wish, face)
    settle([single.wish for single, _ in drawn])


def _finished(wish: Wish, face: Swapped) -> object:
    try:
        return wish.finish(face)
    except Exception as error:
        return error


class _Row(Protocol):
    """Whoever waits for one row of a network's answer."""

    @property
    def at_stake(self) -> list[Wish]: ...


@dataclass(slots=True, eq=False)
class _Single:
    wish: Wish

    @property
    def at_stake(self) -> list[Wish]:
        return [self.wish]


R = TypeVar("R", bound=_Row)


def _apply(
    stage: str, network: Callable[[Rows], Iterable[T]], waiting: Sequence[R], rows: Rows, settle: Settle
) -> list[tuple[R, T]]:
    """`network(rows)` for all at once; where that fails, one by one: only the guilty one fails."""
    started = time.monotonic()
    try:
        results = network(rows)
    except (BundleError, DeviceError) as error:  # not the fault of one face: no second try
        settle([wish for each in waiting for wish in each.at_stake], error)
        return []
    except Exception as error:
        if len(waiting) == 1:
            settle(waiting[0].at_stake, error)
            return []
        log.warning("%s failed for a batch of %d, trying one by one", stage, len(waiting), exc_info=error)
        singles = [_apply(stage, network, [w], rows[n : n + 1], settle) for n, w in enumerate(waiting)]
        return [pair for single in singles for pair in single]
    took = time.monotonic() - started
    for each in waiting:
        for wish in each.at_stake:
            wish.clock.add(stage, took)
    return list(zip(waiting, results, strict=True))
