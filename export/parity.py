"""Proof that a graph gives what torch gives: measured, written down, refused above tolerance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from faceswap.bundle import Parity
from faceswap.sessions import Session
from models.errors import TrainingError

LATENT_TOLERANCE = 0.02
"""Largest error of a latent, relative to its mean absolute value: float16 storage costs about 0.002."""
FACE_TOLERANCE = 3.0
"""Largest error of a face in grey levels of 255."""


class ParityError(TrainingError):
    """onnxruntime's answer differs from torch's by more than the tolerance."""


def seeded_pictures(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(count, 64, 64, 3) uint8: smooth random pictures from dark to bright, so every layer has work."""
    generator = np.random.default_rng(seed)
    coarse = torch.from_numpy(generator.uniform(-0.2, 1.2, (count, 3, 8, 8)).astype(np.float32))
    smooth = nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic")
    noisy = smooth.numpy() + generator.normal(0, 0.03, smooth.shape)
    return (noisy.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def latent_parity(module: nn.Module, session: Session, pictures: npt.NDArray[np.uint8]) -> Parity:
    """The encoder's errors, relative to the latent's mean absolute value. ParityError above tolerance."""
    expected = _torch(module, torch.from_numpy(pictures)).numpy()
    error = np.abs(session.run(pictures) - expected) / max(float(np.abs(expected).mean()), 1e-9)
    return _judged("encoder", error, len(pictures), LATENT_TOLERANCE)


def face_parity(name: str, module: nn.Module, session: Session, latents: Tensor) -> Parity:
    """A decoder's errors in grey levels, on true latents. ParityError above tolerance."""
    expected = _torch(module, latents).numpy().astype(np.int16)
    error = np.abs(session.run(latents.numpy()).astype(np.int16) - expected)
    return _judged(f"decoder {name}", error, len(latents), FACE_TOLERANCE)


@torch.no_grad()
def _torch(module: nn.Module, batch: Tensor) -> Tensor:
    answer: Tensor = module.eval()(batch)
    return answer


def _judged(name: str, error: npt.NDArray[np.generic], samples: int, tolerance: float) -> Parity:
    mean, worst = float(error.mean()), float(error.max())
    if not worst <= tolerance:  # also true for NaN
        raise ParityError(
            f"{name}: onnxruntime differs from torch by up to {worst:.4g} (mean {mean:.4g}), "
            f"more than the tolerance of {tolerance:g}"
        )
    return Parity(samples=samples, mean_error=round(mean, 6), max_error=round(worst, 6), tolerance=tolerance)
