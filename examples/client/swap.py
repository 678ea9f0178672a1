"""python -m examples.client.swap [URL] [TARGET] [PHOTO] [OUT]: one face, or why there is none."""

from __future__ import annotations

import os
import sys

from faceswap_client import BusyError, Client, NoFaceError, UnreachableError


def main(
    url: str = "http://127.0.0.1:8000",
    target: str = "will",
    photo: str = "examples/a.jpg",
    out: str = "swapped.jpg",
) -> str:
    with Client(url, api_key=os.environ.get("FACESWAPD_KEY")) as client:
        try:
            picture = client.swap(photo, target, output="photo", format="jpeg")
        except NoFaceError as error:
            return f"another photo, please: {error}"
        except (BusyError, UnreachableError) as error:
            return f"later, please: {error}"
    took = ", ".join(f"{step} {ms:g} ms" for step, ms in picture.milliseconds.items())
    return f"{picture.save(out)}: {len(picture.data)} bytes; {took}"


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]) + "\n")
