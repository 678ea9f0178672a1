"""Network weights as bundles store them, and a name for them that survives the way there and back."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from torch import nn

from models.errors import TrainingError

SMALL = 1024
"""Tensors below that many values stay float32: biases are cheap, and rounding them is not worth it."""
LEVELS = 256
"""A tensor of at most so many distinct values is stored as their table and a byte a weight."""

Floats = npt.NDArray[np.float32]


def as_stored(values: Floats) -> Floats:
    """`values` as they come back from a bundle; of what comes back, the same once more.

    Exact where they are few or have few distinct values (the packaged VGG19 has 256 a layer), else
    rounded to float16. TrainingError if float16 cannot store one.
    """
    if values.size < SMALL or distinct(values) <= LEVELS:
        return values
    if not np.abs(values).max() < np.finfo(np.float16).max:
        raise TrainingError("float16 cannot store the largest of these values")
    return values.astype(np.float16).astype(np.float32)


def weights_sha256(network: nn.Module) -> str:
    """A name for a network's weights as they are stored: sha256 over its state.

    A checkpoint and the same network read back from its bundle have one name.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(as_stored(tensor.detach().cpu().float().contiguous().numpy()).tobytes())
    return digest.hexdigest()


def distinct(values: Floats) -> int:
    """Different bit patterns; -0 and 0 are two, so that storing them loses nothing."""
    return len(np.unique(values.view(np.uint32)))
