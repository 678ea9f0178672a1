"""python -m examples.sheet PHOTO...: sources beside their swaps in one picture, with the library alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image as PillowImage
from PIL import ImageDraw

from faceswap import Image, SwapError, Swapper

SIDE = 192
"""Pixels of a face on the sheet: three times a crop's side."""
GAP = 8
HEAD = 20


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 after one clear line for what could not be swapped."""
    parser = argparse.ArgumentParser(prog="python -m examples.sheet", description=__doc__)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--out", type=Path, default=Path("demo.png"))
    options = parser.parse_args(arguments)
    try:
        sheet(Swapper.open(options.bundle), options.photos).save(options.out)
    except (SwapError, OSError) as error:
        sys.stderr.write(f"examples.sheet: {error}\n")
        return 2
    sys.stdout.write(f"written: {options.out}\n")
    return 0


def sheet(swapper: Swapper, photos: list[Path]) -> PillowImage.Image:
    """A row per photo: its aligned face, then every identity's swap of it."""
    columns = ("source", *swapper.identities)
    step = SIDE + GAP
    picture = PillowImage.new("RGB", (GAP + step * len(columns), HEAD + step * len(photos)), "white")
    draw = ImageDraw.Draw(picture)
    for number, title in enumerate(columns):
        draw.text((GAP + step * number, GAP // 2), title, "black")
    for row, photo in enumerate(photos):
        for number, face in enumerate(_faces(swapper, photo)):
            picture.paste(_enlarged(face), (GAP + step * number, HEAD + step * row))
    return picture


def _faces(swapper: Swapper, photo: Path) -> list[Image]:
    """The source's crop and its swaps, all (64, 64, 3); encoded once for all identities."""
    image = swapper.read(photo)
    crop = swapper.align(image, swapper.find_face(image))
    latents = swapper.encode(crop.pixels[None])
    swaps = [swapper.decode(latents, identity)[0] for identity in swapper.identities]
    return [Image(pixels) for pixels in (crop.pixels, *swaps)]


def _enlarged(face: Image) -> PillowImage.Image:
    return PillowImage.fromarray(face.pixels).resize((SIDE, SIDE), PillowImage.Resampling.BICUBIC)


if __name__ == "__main__":
    sys.exit(main())
