"""Pose: a small network that sees the five landmarks, so that a swap can be held to its source's.

A decoder learns from its own person's photos only; nothing tells it where the eyes and the mouth of a
foreign latent belong. With this network, training decodes general faces by a person's decoder as well
and compares the landmarks of the swap with the source's.

It learns from the points that the detector finds, which the landmark error of models/metrics.py is
measured with as well: that figure is no independent judge of a model trained so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faceswap.detection import FaceDetector
from models.augment import AugmentConfig, affine
from models.bars import progress_bar
from models.dataset import MARGIN, centre
from models.metrics import landmarks
from models.tone import ToneMeter

POINTS = 5
STEPS, BATCH, RATE = 2500, 64, 1e-3
FACES = 6000
"""Detecting takes about 10 ms a face."""


class PoseNet(nn.Module):
    """Toneless faces (N, 3, 64, 64) -> landmarks (N, 5, 2) in crop pixels."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 32, 2), (32, 64, 2), (64, 96, 2), (96, 128, 1)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 64, 128), nn.ReLU())
        self.points = nn.Linear(128, 2 * POINTS)

    def forward(self, faces: Tensor) -> Tensor:
        offsets: Tensor = self.points(self.layers(faces)).float()
        return 32 + 16 * offsets.view(-1, POINTS, 2)


def pose_error(points: Tensor, true: Tensor) -> Tensor:
    """Mean distance of the points as a share of the true eye distance; (N, 5, 2) twice -> a scalar."""
    eyes = torch.linalg.vector_norm(true[:, 1] - true[:, 0], dim=1).clamp_min(4)
    error: Tensor = (torch.linalg.vector_norm(points - true + 1e-6, dim=2).mean(dim=1) / eyes).mean()
    return error


def fit_pose(
    crops: Tensor, detector: FaceDetector, meter: ToneMeter, seed: int, steps: int = STEPS
) -> PoseNet:
    """Trains a PoseNet on crops (n, 3, 80, 80) whose landmarks `detector` finds, rotated and shifted."""
    generator = torch.Generator().manual_seed(seed)
    crops = crops[torch.randperm(len(crops), generator=generator)[:FACES]]
    crops, points = _labelled(crops, detector)
    net = PoseNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    amounts = AugmentConfig(rotation=15, zoom=0.12, shift=0.08)
    with progress_bar(total=steps, unit="step", desc="pose") as bar:
        for _ in range(steps):
            chosen = torch.randint(len(crops), (BATCH,), generator=generator)
            faces, true = affine(crops[chosen], points[chosen], 64, amounts, generator)
            toneless = meter.remove(faces / 255, meter(faces / 255))
            error = pose_error(net(toneless), true)
            optimizer.zero_grad(set_to_none=True)
            error.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            bar.update()
            bar.set_postfix(error=f"{error.item():.3f}")
    net.requires_grad_(requires_grad=False)
    return net


def _labelled(crops: Tensor, detector: FaceDetector) -> tuple[Tensor, Tensor]:
    """Those with a face, and their landmarks (n, 5, 2) in pixels of the 80x80 crop."""
    faces = centre(crops).permute(0, 2, 3, 1).contiguous().numpy()
    found: list[Any] = []
    for start in progress_bar(range(0, len(faces), 50), desc="landmarks", unit_scale=50):
        found += landmarks(detector, faces[start : start + 50])
    kept = [index for index, points in enumerate(found) if points is not None]
    points = torch.from_numpy(np.stack([found[index] for index in kept])).float() + MARGIN
    return crops[kept], points
