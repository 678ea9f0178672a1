"""Tables and chart of figures that are made up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import ImageColor

from models.chart import GATE, OURS, PEER, chart
from models.gates import check
from models.report import exposure_table, group_table, markdown, summary, table

ROW: dict[str, Any] = {
    "face_found": 1.0, "top1": 0.97, "d_target": 0.4, "leak": 0.02, "landmark_error": 0.06, "light": 0.95,
}  # fmt: skip
WHOLE = ROW | {
    "ssim": 0.91,
    "psnr": 27.5,
    "real_photo": ROW,
    "copy_of_source": ROW | {"landmark_error": None},
}
GAP = {"points": 3.0, "group": "black", "figure": "top1", "figures": {}}


@pytest.fixture
def result() -> dict[str, Any]:
    figures = {
        "model": "demo", "judge": "colours", "sources": 4, "gallery": 9,
        "identities": {"will": WHOLE, "amara": WHOLE},
        "peer": {"identities": {"will": ROW | {"ssim": 0.7, "psnr": 20.0}}},
        "groups": {
            "sources": {"white": 3, "black": 4},
            "rows": {name: {"white": ROW, "black": ROW} for name in ("will", "amara")},
            "mean": {"white": ROW, "black": ROW},
            "gaps": {"will": GAP, "amara": None, "mean": GAP},
        },
        "exposure": {
            "luma": {"darkest": [20.0, 60.0], "brightest": [150.0, 200.0]},
            "rows": {"will": {"darkest": ROW, "brightest": ROW}},
            "mean": {"darkest": ROW, "brightest": ROW},
        },
    }  # fmt: skip
    return figures | {"gates": check(figures)}


def even(text: str) -> bool:
    """Every line of a table has as many columns."""
    return len({line.count("|") for line in text.splitlines() if line}) == 1


def test_tables_are_even(result: dict[str, Any]) -> None:
    assert even(table(result))
    assert even(exposure_table(result["exposure"]))
    rows, gaps = group_table(result["groups"]).split("\n\n")
    assert even(rows) and even(gaps)
    assert rows.count("\n") == 1 + 2 * 3, "two groups of will, amara and the mean"


def test_the_peer_stands_beside_ours(result: dict[str, Any]) -> None:
    names = [line.split("|")[1].strip() for line in table(result).splitlines()[2:]]
    assert names[:4] == ["will", "will: the peer", "will: a real photo", "amara"]


def test_the_report_has_all_parts_that_were_measured(result: dict[str, Any]) -> None:
    text = markdown(result)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# demo",
        "## Groups",
        "## Dark and bright sources",
        "## Gates",
    ]
    assert summary(result["gates"]) in text
    for key in ("groups", "exposure", "gates", "peer"):
        del result[key]
    assert "##" not in markdown(result)


def test_the_chart_shows_ours_the_peer_and_the_gate(result: dict[str, Any]) -> None:
    picture = chart(result)
    pixels = np.asarray(picture).reshape(-1, 3)
    colours = {tuple(int(v) for v in row) for row in np.unique(pixels[::3], axis=0)}
    assert {ImageColor.getrgb(colour) for colour in (OURS, PEER, GATE)} <= colours
    wide, tall = picture.size
    assert wide == 1200 and 300 < tall < 1500
