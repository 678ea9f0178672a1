"""Photos to measure on: whose they are, which of them training never saw, cropped as serving crops."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceswap.alignment import Template, align
from faceswap.detection import FaceDetector
from faceswap.errors import NoFaceError, SwapError
from faceswap.faces import CROP_SIZE, Pixels
from faceswap.images import read_image
from models.bars import progress_bar
from models.dataset import held_out, person_of, pictures_below
from models.embeddings import cores
from models.errors import DataError
from models.evaluation import Sets
from models.metrics import Faces

log = logging.getLogger("models.evaluate")
PHOTOS_PER_PERSON = 5
MIN_OTHERS = 100
SHOWN = 50
"""More photos than this take seconds to crop and get a progress bar."""


class PhotoReader:
    """Finds the largest face of photos and aligns it, by the calls that serving makes."""

    def __init__(self, detector: FaceDetector, template: Template) -> None:
        self.detector, self.template = detector, template

    def read(self, photos: Sequence[Path]) -> Faces:
        """(N, 64, 64, 3); photos without a face are left out."""
        crops = [crop for crop in self.read_each(photos, "photos") if crop is not None]
        return np.stack(crops) if crops else np.empty((0, CROP_SIZE, CROP_SIZE, 3), np.uint8)

    def read_each(self, photos: Sequence[Path], what: str) -> list[Pixels | None]:
        """One crop a photo, in order, None where there is no face."""
        quiet = len(photos) < SHOWN
        with ThreadPoolExecutor(min(cores(), 16)) as pool:
            done = pool.map(self._crop, photos)
            bar = progress_bar(done, desc=what, total=len(photos), unit="photo", disable=quiet)
            return list(bar)

    def _crop(self, photo: Path) -> Pixels | None:
        try:
            image = read_image(photo.read_bytes())
            faces = self.detector.detect(image)
            if not faces:
                raise NoFaceError("no face found")
            face = self.detector.refine(image, faces[0])
        except SwapError as error:
            log.info("%s left out: %s", photo.name, type(error).__name__)
            return None
        return align(image, face.landmarks, self.template).pixels


@dataclass(frozen=True, slots=True)
class Choice:
    """Which people are sources and gallery, all held out of training, by the rule of models.dataset."""

    sources: Path
    gallery: Sequence[Path]
    count: int
    start: int
    others: int

    def people(self, identities: Sequence[str]) -> tuple[list[Path], list[list[Path]], list[Path]]:
        """One photo of each source, photos of each other person, and one photo of every possible source.

        A person who is an identity is nobody to be mistaken for. DataError where there are too few.
        """
        people = self._held_out({name.casefold() for name in identities})
        prefix = f"{self.sources.name}/"
        candidates = [name for name in sorted(people) if name.startswith(prefix)]
        chosen = candidates[self.start :: max(1, len(candidates) // self.count)][: self.count]
        rest = [name for name in sorted(people) if name not in set(chosen)]
        if len(chosen) < self.count or len(rest) < MIN_OTHERS:
            raise DataError(
                f"only {len(chosen)} held-out sources and {len(rest)} others; a measure needs more people"
            )
        rest = rest[:: max(1, len(rest) // self.others)][: self.others]
        return (
            [people[name][0] for name in chosen],
            [people[name][:PHOTOS_PER_PERSON] for name in rest],
            [people[name][0] for name in candidates],
        )

    def _held_out(self, identities: set[str]) -> dict[str, list[Path]]:
        people: dict[str, list[Path]] = {}
        for folder in [self.sources, *self.gallery]:
            for picture in pictures_below(folder):
                person = person_of(picture, folder)
                if held_out(person) and person.casefold() not in identities:
                    people.setdefault(f"{folder.name}/{person}", []).append(picture)
        return people


def read_sets(
    choice: Choice, identities: Sequence[str], people: Sequence[Path], skip: int, reader: PhotoReader
) -> Sets:
    """Sources, gallery and the photos of each identity after its first `skip`."""
    chosen, rest, _ = choice.people(identities)
    sources = reader.read(chosen)
    ends = np.cumsum([len(photos) for photos in rest])[:-1]
    crops = reader.read_each([photo for photos in rest for photo in photos], "photos of the gallery")
    others = [_stack(crops[start:end]) for start, end in zip([0, *ends], [*ends, len(crops)], strict=True)]
    unseen = {n: reader.read(pictures_below(folder_of(n, people))[skip:]) for n in identities}
    short = sorted(name for name, faces in unseen.items() if len(faces) < 2)
    if short:
        raise DataError(f"{', '.join(short)}: no photos with a face are left after the first {skip}")
    return Sets(sources, unseen, [faces for faces in others if len(faces)])


def folder_of(identity: str, roots: Sequence[Path]) -> Path:
    """The folder of an identity's photos; `George_W_Bush` will do for `george_w_bush`."""
    for root in roots:
        if (root / identity).is_dir():
            return root / identity
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            if folder.is_dir() and folder.name.casefold() == identity:
                return folder
    return roots[0] / identity  # whose absence is said where it is read


def _stack(crops: Sequence[Pixels | None]) -> Faces:
    found = [crop for crop in crops if crop is not None]
    return np.stack(found) if found else np.empty((0, CROP_SIZE, CROP_SIZE, 3), np.uint8)
