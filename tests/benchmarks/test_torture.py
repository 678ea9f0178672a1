"""The table of what was tortured."""

from __future__ import annotations

from benchmarks.torture import table
from tests.torture.sizes import Tally


def test_figures_add_up_and_maxima_stay() -> None:
    tally = Tally()
    tally.note("gzip bodies", inputs=400, slowest_ms_max=3.5)
    tally.note("gzip bodies", inputs=600, slowest_ms_max=1.0)
    tally.note("soak", growth_percent=0.5)
    assert tally.rows["gzip bodies"] == {"inputs": 1000, "slowest_ms_max": 3.5}
    assert table(tally.rows).splitlines() == [
        "| what | figures |",
        "|---|---|",
        "| gzip bodies | inputs 1,000, slowest ms max 3.5 |",
        "| soak | growth percent 0.5 |",
    ]
