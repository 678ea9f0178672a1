"""python -m examples.client.batch URL FOLDER TARGET PHOTO...: many photos, each result as it is done."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from faceswap_client import Client, Failure


def main(url: str, folder: str, target: str, *photos: str) -> int:
    """How many photos failed."""
    failed = 0
    with Client(url, api_key=os.environ.get("FACESWAPD_KEY")) as client:
        for result in client.batch(photos, target, output="photo", format="jpeg"):
            name = Path(photos[result.image]).stem
            if isinstance(result, Failure):
                failed += 1
                sys.stdout.write(f"{name}: {result.error.slug}, {result.error.detail}\n")
            else:
                sys.stdout.write(f"{name}: {result.save(Path(folder) / f'{name}-{result.target}.jpg')}\n")
    return failed


if __name__ == "__main__":
    main(*sys.argv[1:])
