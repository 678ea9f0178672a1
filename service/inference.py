"""One batch through the networks: encoded together, decoded by identity, and each failure kept apart."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

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


@dataclass(slots=True, eq=False)
class Item:
    """One face on its way: `crop` (64, 64, 3) in, `outcome` out; `deadline` by time.monotonic().

    It is encoded and decoded by `networks`, those of the bundle that its request began with.
    """

    networks: Networks
    crop: Pixels
    identity: str
    deadline: float
    clock: Clock
    done: asyncio.Future[Swapped]
    arrived: float = field(default_factory=time.monotonic)
    outcome: Swapped | BaseException | None = None


class Settle(Protocol):
    """Told of items that have their outcome, or that share the `error`."""

    def __call__(self, items: Sequence[Item], error: BaseException | None = None) -> None: ...


def run_batch(networks: Networks, batch: Sequence[Item], settle: Settle) -> None:
    """Every item of `batch` is settled, each identity as soon as it is decoded."""
    started = time.monotonic()
    for item in batch:
        item.clock.add("queue", started - item.arrived)
    crops = np.stack([item.crop for item in batch])  # (N, 64, 64, 3)
    groups: dict[str, list[tuple[Item, Rows]]] = defaultdict(list)
    for item, latent in _apply("encode", networks.encode, batch, crops, settle):
        groups[item.identity].append((item, latent))
    for identity, pairs in groups.items():
        items = [item for item, _ in pairs]
        latents = np.stack([latent for _, latent in pairs])  # (N, C, h, w)
        decode = partial(networks.decode_faces, identity=identity)
        for item, face in _apply("decode", decode, items, latents, settle):
            item.outcome = face
        settle([item for item in items if item.outcome is not None])


def _apply(
    stage: str,
    network: Callable[[Rows], Iterable[T]],
    items: Sequence[Item],
    rows: Rows,
    settle: Settle,
) -> list[tuple[Item, T]]:
    """`network(rows)` for all items at once; where that fails, one by one: only the guilty one fails."""
    started = time.monotonic()
    try:
        results = network(rows)
    except (BundleError, DeviceError) as error:  # not the fault of one face: no second try
        settle(items, error)
        return []
    except Exception as error:
        if len(items) == 1:
            settle(items, error)
            return []
        log.warning("%s failed for a batch of %d, trying one by one", stage, len(items), exc_info=error)
        singles = [_apply(stage, network, [i], rows[n : n + 1], settle) for n, i in enumerate(items)]
        return [pair for single in singles for pair in single]
    took = time.monotonic() - started
    for item in items:
        item.clock.add(stage, took)
    return list(zip(items, results, strict=True))
