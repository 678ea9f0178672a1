"""python -m examples.before_after PHOTO IDENTITY: the photo, and beside it with the face swapped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image as PillowImage

from faceswap import Image, SwapError, Swapper

HEIGHT = 480
GAP = 8


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for what could not be swapped."""
    parser = argparse.ArgumentParser(prog="python -m examples.before_after", description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("identity")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--out", type=Path, default=Path("photo.png"))
    options = parser.parse_args(arguments)
    try:
        swapper = Swapper.open(options.bundle)
        before = swapper.read(options.photo)
        side_by_side([before, swapper.swap_photo(before, options.identity)]).save(options.out)
    except (SwapError, OSError) as error:
        sys.stderr.write(f"examples.before_after: {error}\n")
        return 2
    sys.stdout.write(f"written: {options.out}\n")
    return 0


def side_by_side(images: list[Image]) -> PillowImage.Image:
    """All at the same height, with a gap between."""
    pictures = [PillowImage.fromarray(image.pixels) for image in images]
    scaled = [p.resize((round(p.width * HEIGHT / p.height), HEIGHT)) for p in pictures]
    wide = PillowImage.new("RGB", (sum(p.width + GAP for p in scaled) - GAP, HEIGHT), "white")
    left = 0
    for picture in scaled:
        wide.paste(picture, (left, 0))
        left += picture.width + GAP
    return wide


if __name__ == "__main__":
    raise SystemExit(main())
