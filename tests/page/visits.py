"""A visit to the page: what a person does there, and what went wrong unseen."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from PIL import Image as PillowImage
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, ViewportSize

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
GRAVE = {"serious", "critical"}
WIDE, PHONE = (1280, 800), (360, 740)
PERMISSIONS = ["camera", "clipboard-read", "clipboard-write"]


@dataclass
class Visit:
    """One tab. `errors` and `foreign` fill by themselves; `known` are words of errors that are meant."""

    page: Page
    host: str
    errors: list[str] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)
    known: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._on_request)
        self.page.on("websocket", lambda socket: self._on_address(socket.url))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _on_request(self, request: Request) -> None:
        self.asked.append(f"{request.method} {request.url.partition(self.host)[2]}")
        self._on_address(request.url)

    def _on_address(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("blob", "data") and parts.netloc != self.host:
            self.foreign.add(url)

    def unexpected(self) -> list[str]:
        return [text for text in self.errors if not any(word in text for word in self.known)]

    def open(self) -> None:
        self.page.goto(f"http://{self.host}/")
        self.page.locator(".card").first.wait_for()

    def choose(self, photo: str | Path) -> None:
        """Picks a photo and waits until it is pasted back or the page says what is wrong."""
        self.page.set_input_files("#file", EXAMPLES / photo)
        self.settled()

    def settled(self) -> None:
        """Everything that was asked for has come: the photo and everyone's face, or the words of an error."""
        done = self.page.locator("#photo-link[href]").and_(self.page.locator("body:not(:has([aria-busy])) *"))
        self.page.locator("#trouble:not([hidden])").or_(done).first.wait_for()
        if self.page.locator("#trouble").is_hidden():
            self.page.locator(".cards:not(:has(.card:not(.swapped)))").wait_for()

    def address(self, image: str) -> str:
        return self.page.locator(image).get_attribute("src") or ""

    def seen_size(self, image: str) -> list[int]:
        """Width and height of the picture in its own pixels."""
        size: list[int] = self.page.locator(image).evaluate("i => [i.naturalWidth, i.naturalHeight]")
        return size

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        wide: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wide

    def barriers(self) -> list[dict[str, Any]]:
        """What axe-core finds to be serious or critical for people with disabilities."""
        found = Axe().run(self.page, options={"resultTypes": ["violations"]}).response["violations"]
        return [
            {"rule": each["id"], "where": [node["html"] for node in each["nodes"]]}
            for each in found
            if each["impact"] in GRAVE
        ]


@contextmanager
def visiting(browser: Browser, host: str, size: tuple[int, int] = WIDE, **options: Any) -> Iterator[Visit]:
    """A fresh profile. At the end: no error in the console, no request to anyone else."""
    viewport = ViewportSize(width=size[0], height=size[1])
    context = browser.new_context(viewport=viewport, permissions=PERMISSIONS, **options)
    context.set_default_timeout(20_000)
    visit = Visit(context.new_page(), host)
    visit.watch()
    try:
        yield visit
        assert visit.unexpected() == []
        assert visit.foreign == set()
    finally:
        context.close()


def launched(playwright: Playwright, chromium: str, camera: Path) -> Browser:
    """Chromium whose camera shows the file `camera` and needs no answer of a person.

    As root, in a container, there is no sandbox to have.
    """
    fake = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    arguments = ["--no-sandbox", "--disable-gpu", *fake, f"--use-file-for-fake-video-capture={camera}"]
    return playwright.chromium.launch(executable_path=chromium, args=arguments)


def film(photo: Path, frames: int = 12) -> bytes:
    """An MJPEG file, 640x480: a photo that moves a little."""
    with PillowImage.open(photo) as picture:
        still = picture.convert("RGB").resize((640, 480))
    stream = io.BytesIO()
    for number in range(frames):
        shift = abs(number - frames // 2)
        still.transform(still.size, PillowImage.Transform.AFFINE, (1, 0, shift, 0, 1, 0)).save(stream, "JPEG")
    return stream.getvalue()
