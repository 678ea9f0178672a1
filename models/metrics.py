"""What a swap is measured by: likeness to a truth, pose and light of the source, nearest person."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PillowImage

from faceswap.detection import FaceDetector
from faceswap.faces import Image, Pixels
from models.losses import LUMA, gaussian_window, ssim_map

Faces = npt.NDArray[np.uint8]
"""(N, 64, 64, 3) RGB."""
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def ssim(decoded: Faces, true: Faces, mask: Mask) -> float:
    """Mean SSIM (Wang et al. 2004, Gaussian window, each colour channel) inside `mask` (64, 64)."""
    a, b = _tensor(decoded), _tensor(true)
    local = ssim_map(a, b, gaussian_window()).mean(dim=1).numpy()  # (N, 64, 64)
    return float(local[:, mask].mean())


def psnr(decoded: Faces, true: Faces, mask: Mask) -> float:
    """Mean over the pictures of the PSNR in dB inside `mask`."""
    error = (decoded.astype(np.float64) - true)[:, mask].reshape(len(true), -1)
    return float((10 * np.log10(255**2 / np.maximum((error**2).mean(axis=1), 1e-9))).mean())


def landmarks(detector: FaceDetector, faces: Faces) -> list[Floats | None]:
    """Five points (5, 2) in crop pixels for each face, None where the detector finds none."""
    return [_points(detector, face) for face in faces]


def _points(detector: FaceDetector, face: Pixels) -> Floats | None:
    enlarged = PillowImage.fromarray(face).resize((160, 160), PillowImage.Resampling.BICUBIC)
    found = detector.detect(Image(np.asarray(enlarged)))
    return found[0].landmarks.points * face.shape[0] / 160 if found else None


def landmark_error(sources: list[Floats | None], swaps: list[Floats | None]) -> float:
    """Mean distance source -> swap of the five points as a share of the source's eye distance."""
    pairs = [(a, b) for a, b in zip(sources, swaps, strict=True) if a is not None and b is not None]
    errors = [np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(a[1] - a[0]) for a, b in pairs]
    return float(np.mean(errors)) if errors else float("nan")


def light_asymmetry(faces: Faces, mask: Mask) -> Floats:
    """(N,): luma of the face's right half minus its left, over their sum: the light's direction."""
    luma = faces.astype(np.float64) @ np.array(LUMA)  # (N, 64, 64)
    half = mask.shape[1] // 2
    left, right = mask.copy(), mask.copy()
    left[:, half:], right[:, :half] = False, False
    dark, bright = luma[:, left].mean(axis=1), luma[:, right].mean(axis=1)
    return np.asarray((bright - dark) / np.maximum(bright + dark, 1e-9))


def light_correlation(sources: Faces, swaps: Faces, mask: Mask) -> float:
    """Pearson's r of the light's direction between sources and swaps."""
    return float(np.corrcoef(light_asymmetry(sources, mask), light_asymmetry(swaps, mask))[0, 1])


def top1(embeddings: Floats, gallery: Floats, target: int) -> float:
    """Share of `embeddings` (N, 128) whose nearest row of `gallery` (M, 128) is number `target`."""
    distances = np.linalg.norm(embeddings[:, None] - gallery[None], axis=2)
    return float((distances.argmin(axis=1) == target).mean())


def mean_distance(a: Floats, b: Floats) -> float:
    """Mean distance of a's rows to b's rows, pair by pair; b may be one row (128,)."""
    return float(np.linalg.norm(a - b, axis=1).mean())


def all_pairs_distance(a: Floats, b: Floats) -> float:
    """Mean distance of every row of a to every row of b."""
    return float(np.linalg.norm(a[:, None] - b[None], axis=2).mean())


def _tensor(faces: Faces) -> torch.Tensor:
    return torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255
