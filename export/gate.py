"""The quality gate: a variant's swapped faces beside those of the fp32 graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.bundle import ExportError
from faceswap.bundle import Gate
from faceswap.faces import Pixels
from models.judge import Judge, embed_all, face_mask
from models.metrics import ssim, top1

Embeddings = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Jury:
    """Who looks at swapped faces: SSIM, and `judge` where there is one.

    `gallery` (M, 128) holds everybody that a face can be taken for: the identities in the order of
    `names`, then the people of the crops.
    """

    names: list[str]
    sources: str
    provider: str
    judge: Judge | None = None
    gallery: Embeddings | None = None
    emulates: str | None = None
    """The provider whose arithmetic the faces were made with, if not `provider`'s own."""

    def gate(self, identity: str, faces: Pixels, true: Pixels) -> Gate:
        """Of `faces` (N, 64, 64, planes) beside what fp32 makes, `true`."""
        own, theirs = (self._top1(identity, each) for each in (faces, true))
        return Gate(
            samples=len(faces),
            sources=self.sources,
            provider=self.provider,
            emulates=self.emulates,
            ssim=round(likeness(faces, true), 4),
            error=round(float(np.abs(faces.astype(np.int16) - true)[..., :3].mean()), 3),
            judge=self.judge.name if self.judge else None,
            top1=own,
            top1_fp32=theirs,
        )

    def _top1(self, identity: str, faces: Pixels) -> float | None:
        if self.judge is None or self.gallery is None:
            return None
        embeddings = embed_all(self.judge, np.ascontiguousarray(faces[..., :3]))
        return round(top1(embeddings, self.gallery, self.names.index(identity)), 4)


def likeness(faces: Pixels, true: Pixels) -> float:
    """Mean SSIM of two sets of faces (N, 64, 64, planes) inside the ellipse of a face."""
    if not np.array_equal(faces.shape, true.shape):
        raise ExportError(f"a variant gives {faces.shape[1:]} where fp32 gives {true.shape[1:]}")
    return ssim(np.ascontiguousarray(faces[..., :3]), np.ascontiguousarray(true[..., :3]), face_mask())


def gallery(judge: Judge, swaps: dict[str, Pixels], crops: Pixels) -> Embeddings:
    """Identities by the mean of their fp32 `swaps`, then each of the `crops` by itself."""
    centres = [
        embed_all(judge, np.ascontiguousarray(faces[..., :3])).mean(axis=0) for faces in swaps.values()
    ]
    return np.concatenate([np.stack(centres), embed_all(judge, crops)])


def worst(gates: list[Gate]) -> Gate:
    """That of the least SSIM, with the largest fall of top-1 among them all."""
    least = min(gates, key=lambda gate: gate.ssim)
    judged = [gate for gate in gates if gate.top1 is not None and gate.top1_fp32 is not None]
    if not judged:
        return least
    fallen = max(judged, key=lambda gate: (gate.top1_fp32 or 0) - (gate.top1 or 0))
    news: dict[str, Any] = {"top1": fallen.top1, "top1_fp32": fallen.top1_fp32}
    return least.model_copy(update=news)
