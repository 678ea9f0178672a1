"""python -m examples.answers [URL]: writes the pictures that /docs shows, answers of a running service."""

from __future__ import annotations

import sys
from pathlib import Path

from faceswap_client import Client

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "service" / "static" / "docs"
PHOTO = ROOT / "examples" / "b.jpg"


def main(url: str = "http://127.0.0.1:8000", target: str = "will", folder: str | Path = FOLDER) -> None:
    with Client(url) as client:
        client.swap(PHOTO, target).save(Path(folder) / "face.png")
        client.swap(PHOTO, target, output="photo", format="jpeg").save(Path(folder) / "photo.jpg")


if __name__ == "__main__":
    main(*sys.argv[1:])
