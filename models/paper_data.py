"""The paper's data: photos at 64x64, whole or cropped, and what the frozen encoder makes of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from faceswap.alignment import align
from faceswap.detection import FaceDetector, LibFaceDetection
from faceswap.errors import SwapError
from faceswap.faces import CROP_SIZE, Image, Pixels
from faceswap.images import read_image
from models.bars import progress_bar
from models.dataset import MARGIN, pictures_below
from models.errors import DataError
from models.paper import PaperEncoder
from models.trainer import supports_bf16

log = logging.getLogger(__name__)
READY = {CROP_SIZE: 0, CROP_SIZE + 2 * MARGIN: MARGIN}
"""Side of a picture that already is a crop -> its margin."""


def load_photos(files: list[Path], uncropped: bool) -> tuple[Tensor, list[Path]]:
    """uint8 (n, 3, 64, 64) and the files they came from; photos without a face are left out by name.

    Uncropped is the paper's way: the whole photo is squeezed. Else a 64x64 or 80x80 picture is taken for
    a crop, and in any other the largest face is aligned, by the calls that serving makes.
    """
    prepare = squeeze if uncropped else Cropper()
    pixels, kept = [], []
    for file in progress_bar(files, unit="photo", disable=len(files) < 50, leave=False):
        try:
            pixels.append(prepare(read_image(file.read_bytes())))
            kept.append(file)
        except SwapError as error:
            log.warning("%s left out: %s", file.name, error)
    if not pixels:
        raise DataError("no photo can be used; --uncropped takes photos in which no face is found")
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), kept


def find_photos(folder: Path, count: int) -> tuple[list[Path], list[Path]]:
    """The first `count` pictures below `folder` by name, to train on, and the rest, to measure on."""
    files = pictures_below(folder)
    if not files:
        raise DataError(f"no pictures in {folder}")
    return files[:count], files[count:]


def squeeze(image: Image) -> Pixels:
    """The whole photo as (64, 64, 3), whatever its shape was."""
    picture = PillowImage.fromarray(image.pixels)
    return np.asarray(picture.resize((CROP_SIZE, CROP_SIZE), PillowImage.Resampling.BICUBIC))


class Cropper:
    """A photo's face as (64, 64, 3); NoFaceError where there is none. The detector starts when needed."""

    def __init__(self, make_detector: Callable[[], FaceDetector] = LibFaceDetection) -> None:
        self._make_detector = make_detector
        self._detector: FaceDetector | None = None

    def __call__(self, image: Image) -> Pixels:
        if image.width == image.height and image.width in READY:
            margin = READY[image.width]
            return image.pixels[margin : margin + CROP_SIZE, margin : margin + CROP_SIZE]
        self._detector = self._detector or self._make_detector()
        faces = self._detector.detect(image)
        if not faces:
            raise SwapError("no face found")
        return align(image, self._detector.refine(image, faces[0]).landmarks).pixels


def fingerprint(photos: Tensor) -> str:
    """sha256 of photos uint8 (n, 3, 64, 64): a resumed run must have the same ones."""
    return hashlib.sha256(photos.contiguous().numpy().tobytes()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """All photos and their encodings in the device's memory: 30 MB for 449 in bfloat16."""

    latents: Tensor
    """(n, 8, 8, 512), channels last, as convolutions in bfloat16 like it best."""
    truths: Tensor
    """uint8 (n, 3, 64, 64)."""

    def __len__(self) -> int:
        return len(self.truths)

    def batch(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (N, 512, 8, 8) and truth (N, 3, 64, 64) in 0..1 of the photos at `places` (N,)."""
        truths = self.truths.index_select(0, places).float() / 255
        return self.latents.index_select(0, places).permute(0, 3, 1, 2), truths


@torch.no_grad()
def encode(encoder: PaperEncoder, photos: Tensor, device: torch.device) -> Encoded:
    """Encodes each photo (n, 3, 64, 64) once; bfloat16 where the device has it. Nothing is augmented."""
    low = supports_bf16(device)
    encoder = encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = []
    for part in torch.split(photos, 64):
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            rgb = part.to(device).float().contiguous(memory_format=torch.channels_last)
            latents = encoder(rgb)
        parts.append(latents.to(torch.bfloat16 if low else torch.float32).permute(0, 2, 3, 1).contiguous())
    return Encoded(torch.cat(parts), photos.to(device))


def order(seed: int, start: int, count: int, photos: int) -> Tensor:
    """Which photo is shown at the places start .. start + count of the training's endless stream, (count,).

    The stream is one permutation after another, each drawn from the seed and the number of its epoch, and
    batches run over their joints: 449 is 7 x 64 + 1, and a step on one photo would be mostly noise. As
    nothing but `seed` and `start` decides it, a run goes on after a crash as if there had been none.
    """
    first, last = start // photos, (start + count - 1) // photos
    epochs = [_permutation(seed, epoch, photos) for epoch in range(first, last + 1)]
    return torch.cat(epochs)[start - first * photos :][:count]


def _permutation(seed: int, epoch: int, photos: int) -> Tensor:
    generator = torch.Generator()
    generator.manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(photos, generator=generator)
