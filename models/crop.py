"""python -m models.crop: the auto-crop. Photos or clips in, aligned training crops and a report out."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image as PillowImage

from faceswap.alignment import Template, align
from faceswap.detection import FaceDetector, LibFaceDetection
from faceswap.errors import NoFaceError, SwapError
from faceswap.images import read_image
from models.bars import progress_bar
from models.clips import CLIP_SIDES, JPEG_QUALITY
from models.crop_clips import Photos, Task, crop_clips, open_clips
from models.crop_report import counts, earlier_or_none, with_photos, write_report
from models.dataset import MARGIN, PICTURES
from models.errors import DataError
from models.selection import MIN_SIDE, Wishes
from models.video import VIDEOS

log = logging.getLogger("models.crop")


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        clips = [path for path in options.photos if path.suffix.lower() in VIDEOS and not path.is_dir()]
        photos = _chosen(options, [path for path in options.photos if path not in clips], bool(clips))
        if clips or options.clean or options.most or options.min_face:
            _crop_selected(options, photos, clips)
        else:
            _crop_photos(options, photos)
    except (DataError, OSError) as error:
        sys.stderr.write(f"models.crop: {error}\n")
        return 2
    return 0


def _crop_photos(options: argparse.Namespace, photos: Photos) -> None:
    """Photos alone, all of them: nothing is judged or dropped."""
    if options.person or options.every:
        raise DataError("--person and --every are for clips; of a photo the largest face is taken")
    results = crop_all(photos, options.out, LibFaceDetection(), options.threads)
    earlier = earlier_or_none(options.out)
    write_report(options.out, with_photos(earlier, results) if earlier.rich else results)
    _tell(counts(results.values()))


def _crop_selected(options: argparse.Namespace, photos: Photos, paths: list[Path]) -> None:
    if (options.person or options.every) and not paths:
        raise DataError("--person and --every are for clips; of a photo the largest face is taken")
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist")
    clips = open_clips(paths, options.out, photos)
    wishes = Wishes(options.min_face or MIN_SIDE, options.most)
    task = Task(clips, photos, options.out, options.threads, wishes, options.person, options.every)
    report = crop_clips(task, LibFaceDetection(), LibFaceDetection(sides=CLIP_SIDES))
    for person in report["people"]:
        mark = "taken" if person["chosen"] else f"--person {person['person']} takes this one"
        log.info("person %d: %d frames (%s)", person["person"], person["frames"], mark)
    for clip in clips:
        if clip.problem:
            log.warning("%s: %s; what could be read was used", clip.path, clip.problem)
    _tell(report["summary"])


def _tell(results: dict[str, int]) -> None:
    log.info("%s", ", ".join(f"{n} {reason}" for reason, n in results.items()) or "nothing to do")


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
        return dict(progress_bar(pool.map(one, photos), total=len(photos), unit="photo"))


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


def _chosen(options: argparse.Namespace, roots: list[Path], clips: bool) -> Photos:
    """The photos asked for, by name; --skip and --first count photos, so a dropped one shifts nothing."""
    photos = [pair for root in roots for pair in _photos_in(root)]
    if not photos and roots:
        raise DataError(
            f"no pictures ({', '.join(sorted(PICTURES))}) in {', '.join(map(str, roots))}{_hint(roots)}"
        )
    if clips and not photos and (options.skip or options.first is not None):
        raise DataError("--skip and --first count photos; for a clip there are --every and --most")
    targets = Counter(relative.with_suffix("") for _, relative in photos)
    shared = [target.as_posix() for target, count in targets.items() if count > 1]
    if shared:
        raise DataError(f"several photos would become {shared[0]}.jpg; crop them into different folders")
    last = None if options.first is None else options.skip + options.first
    return photos[options.skip : last]


def _hint(roots: list[Path]) -> str:
    """Clips in a folder of photos are left alone, as they may show anybody."""
    clips = [p for root in roots if root.is_dir() for p in root.rglob("*") if p.suffix.lower() in VIDEOS]
    return f"; clips are taken one by one: python -m models.crop {min(clips)}" if clips else ""


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
    parser.add_argument(
        "photos", nargs="+", type=Path, help="photos, folders of photos, clips (mp4, mov, mkv, ...)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the crops")
    parser.add_argument(
        "--skip", type=int, default=0, help="leave out that many photos from the start, by name"
    )
    parser.add_argument("--first", type=int, help="take only that many photos")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--person",
        type=_numbers,
        metavar="N",
        help="which person of the clips (1: most seen); 1,3 for two tracks of one",
    )
    parser.add_argument(
        "--every",
        type=_positive,
        default=0.0,
        metavar="SECONDS",
        help="look at one frame of a clip each so often",
    )
    parser.add_argument(
        "--most", type=_count, metavar="N", help="keep that many crops, as different as can be"
    )
    parser.add_argument(
        "--min-face",
        type=_positive,
        metavar="PIXELS",
        help=f"drop crops made of fewer pixels across ({MIN_SIDE:g})",
    )
    parser.add_argument(
        "--clean",
        action="store_true",
        help="judge photos too: drop blurred, covered, small and double ones (so does any clip, "
        "--most and --min-face; photos alone are all kept)",
    )
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _positive(text: str) -> float:
    if not (value := float(text)) > 0:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    raise SystemExit(main())
