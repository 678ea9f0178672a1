"""A picture of an evaluation: one panel a figure, a bar for each row, the gate as a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from models.gates import AT_LEAST, AT_MOST

TITLES = {
    "face_found": "face found (share)",
    "top1": "nearest person is the target (share)",
    "leak": "leak of the source's identity",
    "landmark_error": "landmark error (eye distances)",
    "light": "light (correlation)",
    "ssim": "SSIM of held-out photos",
    "psnr": "PSNR of held-out photos (dB)",
}
FULL = {"leak": 0.25, "landmark_error": 0.25, "psnr": 40.0}
"""Where a panel's axis ends; the others end at 1."""
OURS, PEER, END, GATE, INK = "#3566a8", "#d98b2b", "#b9bec6", "#b3261e", "#222222"
PANEL, ROW, NAMES, EDGE = 400, 22, 150, 16


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of every panel."""

    name: str
    row: Mapping[str, Any]
    colour: str


def chart(result: Mapping[str, Any]) -> PillowImage.Image:
    """Identities, peer and both ends of the scale against the gates, three panels a line."""
    bars, figures = _bars(result), list(TITLES)
    height = EDGE * 3 + ROW * (len(bars) + 1)
    lines = -(-(len(figures) + 1) // 3)
    picture = PillowImage.new("RGB", (3 * PANEL, lines * height), "white")
    for number, figure in enumerate(figures):
        _panel(picture, (number % 3 * PANEL, number // 3 * height), figure, bars)
    _legend(picture, (len(figures) % 3 * PANEL, len(figures) // 3 * height))
    return picture


def _bars(result: Mapping[str, Any]) -> list[Bar]:
    peers = (result.get("peer") or {}).get("identities", {})
    bars = []
    for name, row in result["identities"].items():
        bars.append(Bar(name, row, OURS))
        if name in peers:
            bars.append(Bar(f"{name}: peer", peers[name], PEER))
        bars.append(Bar(f"{name}: real photo", row["real_photo"], END))
    first = next(iter(result["identities"].values()))
    return [*bars, Bar("copy of the source", first["copy_of_source"], END)]


def _panel(picture: PillowImage.Image, corner: tuple[int, int], figure: str, bars: list[Bar]) -> None:
    draw, font, small = ImageDraw.Draw(picture), ImageFont.load_default(15), ImageFont.load_default(12)
    left, top = corner[0] + EDGE, corner[1] + EDGE
    draw.text((left, top), TITLES[figure], INK, font)
    start, length = left + NAMES, PANEL - NAMES - 5 * EDGE
    full = FULL.get(figure, 1.0)
    for number, bar in enumerate(bars, start=1):
        y, value = top + number * ROW + 4, bar.row.get(figure)
        draw.text((left, y), bar.name[:22], INK, small)
        share = 0.0 if value is None else min(max(value / full, 0.0), 1.0)
        draw.rectangle((start, y, start + max(1, round(share * length)), y + ROW - 8), bar.colour)
        text = "-" if value is None else f"{value:.1f}" if figure == "psnr" else f"{value:.2f}"
        draw.text((start + length + 6, y), text, INK, small)
    gate = start + round((AT_LEAST | AT_MOST)[figure] / full * length)
    draw.line((gate, top + ROW, gate, top + ROW * (len(bars) + 1)), GATE, 2)


def _legend(picture: PillowImage.Image, corner: tuple[int, int]) -> None:
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    rows = ((OURS, "this model"), (PEER, "the peer, same photos and time"), (END, "an end of the scale"))
    x, y = corner[0] + EDGE, corner[1] + EDGE
    for colour, text in (*rows, (GATE, "the gate: at least, or at most for leak and landmarks")):
        y += ROW
        draw.rectangle((x, y, x + 14, y + 14), colour)
        draw.text((x + 22, y), text, INK, font)
