"""python -m models.crop: the auto-crop. Photos in, aligned training crops and a report out."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image as PillowImage
from tqdm import tqdm

from faceswap.alignment import Template, align
from faceswap.detection import FaceDetector, LibFaceDetection
from faceswap.errors import NoFaceError, SwapError
from faceswap.images import read_image
from models.dataset import MARGIN, PICTURES
from models.errors import DataError

log = logging.getLogger("models.crop")
JPEG_QUALITY = 95


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        photos = _chosen(options)
        report = crop_all(photos, options.out, LibFaceDetection(), options.threads)
    except (DataError, OSError) as error:
        sys.stderr.write(f"models.crop: {error}\n")
        return 2
    (options.out / "crop-report.json").write_text(json.dumps(report, indent=1) + "\n")
    counts = Counter(report.values())
    log.info("%s", ", ".join(f"{n} {reason}" for reason, n in counts.most_common()) or "nothing to do")
    return 0


def crop_all(
    photos: list[tuple[Path, Path]], out: Path, detector: FaceDetector, threads: int
) -> dict[str, str]:
    """Crops each (photo, relative path); returns relative path -> "cropped" or the reason it was not."""
    template = Template().with_margin(MARGIN)
    out.mkdir(parents=True, exist_ok=True)

    def one(job: tuple[Path, Path]) -> tuple[str, str]:
        photo, relative = job
        target = (out / relative).with_suffix(".jpg")
        try:
            crop = crop_photo(photo.read_bytes(), detector, template)
        except SwapError as error:
            return relative.as_posix(), type(error).__name__
        target.parent.mkdir(parents=True, exist_ok=True)
        crop.save(target, quality=JPEG_QUALITY)
        return relative.as_posix(), "cropped"

    with ThreadPoolExecutor(threads) as pool:
        return dict(tqdm(pool.map(one, photos), total=len(photos), unit="photo", file=sys.stdout))


def crop_photo(data: bytes, detector: FaceDetector, template: Template) -> PillowImage.Image:
    """The largest face of a photo on `template`, with the very calls that serving makes.

    Raises a SwapError for a photo that cannot be read or has no face.
    """
    image = read_image(data)
    faces = detector.detect(image)
    if not faces:
        raise NoFaceError("no face found")
    face = detector.refine(image, faces[0])
    return PillowImage.fromarray(align(image, face.landmarks, template).pixels)


def _chosen(options: argparse.Namespace) -> list[tuple[Path, Path]]:
    """The photos asked for, by name; --skip and --first count photos, so a dropped one shifts nothing."""
    photos = [pair for root in options.photos for pair in _photos_in(root)]
    if not photos:
        raise DataError(
            f"no pictures ({', '.join(sorted(PICTURES))}) in {', '.join(map(str, options.photos))}"
        )
    targets = Counter(relative.with_suffix("") for _, relative in photos)
    shared = [target.as_posix() for target, count in targets.items() if count > 1]
    if shared:
        raise DataError(f"several photos would become {shared[0]}.jpg; crop them into different folders")
    last = None if options.first is None else options.skip + options.first
    return photos[options.skip : last]


def _photos_in(root: Path) -> Iterator[tuple[Path, Path]]:
    if root.is_file():
        yield root, Path(root.name)
    elif root.is_dir():
        files = sorted(p for p in root.rglob("*") if p.suffix.lower() in PICTURES)
        yield from ((p, p.relative_to(root)) for p in files)
    else:
        raise DataError(f"{root} does not exist")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.crop", description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path, help="photos or folders of photos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the crops")
    parser.add_argument(
        "--skip", type=int, default=0, help="leave out that many photos from the start, by name"
    )
    parser.add_argument("--first", type=int, help="take only that many photos")
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
