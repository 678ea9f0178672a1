"""The contact sheet: what was kept of each person, and examples of what was dropped, by reason."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from models.selection import Candidate

COLUMNS = 12
TILE = 80
BAR = 26
GAP = 2
KEPT_ROWS = 6
_PAGE, _INK = (24, 26, 30), (235, 235, 235)
BLUE, GREY, RED = (38, 84, 140), (70, 74, 82), (140, 58, 46)


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """A caption bar and the crops below it, at most `rows` rows of them, evenly spread."""

    caption: str
    candidates: Sequence[Candidate]
    colour: tuple[int, int, int]
    rows: int = 1

    @property
    def shown(self) -> list[Candidate]:
        room = self.rows * COLUMNS
        step = max(len(self.candidates) / room, 1.0)
        return [self.candidates[int(i * step)] for i in range(min(room, len(self.candidates)))]

    @property
    def height(self) -> int:
        return BAR + GAP + -(-len(self.shown) // COLUMNS) * (TILE + GAP)


def draw_sheet(strips: Sequence[Strip], jpeg_of: Callable[[Candidate], bytes]) -> PillowImage.Image:
    """The strips one below the other; `jpeg_of` gives a candidate's crop."""
    width = COLUMNS * (TILE + GAP) + GAP
    sheet = PillowImage.new("RGB", (width, GAP + sum(strip.height + GAP for strip in strips)), _PAGE)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    top = GAP
    for strip in strips:
        pen.rectangle((GAP, top, width - GAP - 1, top + BAR - 1), fill=strip.colour)
        pen.text((GAP + 8, top + BAR // 2), strip.caption, fill=_INK, font=font, anchor="lm")
        for index, candidate in enumerate(strip.shown):
            row, column = divmod(index, COLUMNS)
            place = (GAP + column * (TILE + GAP), top + BAR + GAP + row * (TILE + GAP))
            with PillowImage.open(io.BytesIO(jpeg_of(candidate))) as crop:
                sheet.paste(crop.resize((TILE, TILE)) if crop.size != (TILE, TILE) else crop, place)
        top += strip.height + GAP
    return sheet


def strips_of(title: str, candidates: Sequence[Candidate], reasons: Sequence[str]) -> list[Strip]:
    """What was kept of `candidates`, then a strip for each of `reasons` that dropped something."""
    kept = [c for c in candidates if c.kept]
    strips = [Strip(f"{title}: {len(kept)} kept of {len(candidates)}", kept, BLUE, KEPT_ROWS)]
    for reason in reasons:
        dropped = [c for c in candidates if c.result == reason]
        if dropped:
            strips.append(Strip(f"dropped, {reason}: {len(dropped)}", dropped, RED))
    return strips


def png_of(sheet: PillowImage.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
