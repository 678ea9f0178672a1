"""Which layers lose too much in bytes: found by measuring, one layer after another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

ENOUGH = 0.98
"""SSIM on the crops of the calibration: the gate's 0.97 and some room for faces unlike them."""
MOST = 4
"""Layers left in float by measurement; a network that needs more gains little from bytes."""

log = logging.getLogger("export")

Score = Callable[[Collection[str]], float]


def sensitive(layers: Collection[str], score: Score, enough: float = ENOUGH) -> dict[str, float]:
    """Layers to be left in float and what each has won, the one that wins most first.

    `score` tells how good the graph is with the named layers in float. None is left where bytes are
    good enough everywhere.
    """
    left: dict[str, float] = {}
    reached = score(left)
    while reached < enough and len(left) < min(MOST, len(layers)):
        scores = {name: score([*left, name]) for name in layers if name not in left}
        best = max(scores, key=lambda name: scores[name])
        if scores[best] <= reached:
            break
        left[best] = round(scores[best] - reached, 4)
        reached = scores[best]
        log.info("  %s stays in float: SSIM %.4f", best, reached)
    return left
