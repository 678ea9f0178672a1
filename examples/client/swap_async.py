"""python -m examples.client.swap_async [URL] [TARGET] [PHOTO...]: many swaps at once, then a stream."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from faceswap_client import AsyncClient, Frame


async def camera(pictures: list[bytes], frames: int = 30) -> AsyncIterator[bytes]:
    """Stands for a camera: JPEG files, 30 a second. Those that come too fast are left out."""
    for number in range(frames):
        yield pictures[number % len(pictures)]
        await asyncio.sleep(1 / 30)


async def swap_all(url: str, target: str, chosen: list[bytes]) -> str:
    async with AsyncClient(url, api_key=os.environ.get("FACESWAPD_KEY")) as client:
        faces = await asyncio.gather(*[client.swap(photo, target) for photo in chosen])
        shown = 0
        async with client.stream(target, output="face") as stream:
            async for frame in stream.swap(camera(chosen)):
                shown += isinstance(frame, Frame)  # here a program would draw frame.data
    return f"{len(faces)} faces; of 30 frames {shown} were shown, the others were out of date"


def main(url: str = "http://127.0.0.1:8000", target: str = "will", *photos: str) -> str:
    chosen = [Path(photo).read_bytes() for photo in photos or ("examples/a.jpg", "examples/b.jpg")]
    return asyncio.run(swap_all(url, target, chosen))


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]) + "\n")
