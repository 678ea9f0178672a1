"""The README's pictures of the page: python -m tests.page.screenshots

The page asks for Inter first (apt-get install fonts-inter); without it the system's own font is seen.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image as PillowImage
from playwright.sync_api import Browser, sync_playwright

from benchmarks.server import HOST, serving
from tests.page import browser as browsers
from tests.page.visits import EXAMPLES, ROOT, film, launched, visiting

IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 300_000


def main() -> int:
    program = browsers.find()
    if program is None:
        sys.stderr.write(browsers.HOW + "\n")
        return 1
    camera = Path("camera.mjpeg").resolve()
    camera.write_bytes(film(EXAMPLES / "a.jpg"))
    try:
        with serving(ROOT / "bundles" / "demo", "cpu") as server, sync_playwright() as playwright:
            host = f"{HOST}:{server.port}"
            chromium = launched(playwright, program, camera)
            taken(chromium, host, "a.jpg", "yuna", (1440, 1036), "light", 1, IMAGES / "page.jpg")
            taken(chromium, host, "two.jpg", "will", (390, 1172), "dark", 2, IMAGES / "page-phone.jpg")
            chromium.close()
    finally:
        camera.unlink()
    return 0


def taken(
    chromium: Browser,
    host: str,
    photo: str,
    identity: str,
    size: tuple[int, int],
    scheme: str,
    density: int,
    file: Path,
) -> None:
    """The page with `photo` as `identity`, as a JPEG of at most 300 kB."""
    with visiting(chromium, host, size, color_scheme=scheme, device_scale_factor=density) as visit:
        visit.open()
        visit.page.get_by_role("radio", name=identity).click()
        visit.choose(photo)
        visit.page.wait_for_timeout(500)  # what fades has faded
        picture = PillowImage.open(io.BytesIO(visit.page.screenshot())).convert("RGB")
    picture.save(file, quality=86, optimize=True)
    if file.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{file.name} has {file.stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())
