"""The benchmark of many identities: its bundle, its visitors, its table."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import crowd
from benchmarks.identities import goals, main, table
from benchmarks.visitors import Visit, beside_cold, zipf
from faceswap.bundle import Bundle
from faceswap.swapper import Swapper

DEMO = Path(__file__).parents[2] / "bundles" / "demo"


def test_a_crowd_is_a_bundle_whose_identities_draw_alike_but_have_their_own_weights(tmp_path: Path) -> None:
    crowd.write(Bundle.open(DEMO), tmp_path, 3)
    swapper, demo = Swapper.open(tmp_path, "cpu", 1), Swapper.open(DEMO, "cpu", 1, "fp32")
    assert swapper.identities == ("p00000", "p00001", "p00002")
    assert len({entry.decoder.sha256 for entry in swapper.manifest.identities}) == 3
    latents = demo.encode(np.full((1, 64, 64, 3), 90, np.uint8))
    faces = [swapper.decode(latents, name).astype(int) for name in swapper.identities]
    model = demo.decode(latents, demo.identities[0]).astype(int)
    assert all(0 < np.abs(face - model).max() < 16 for face in faces)
    assert (faces[0] != faces[1]).any()


def test_the_first_identity_can_be_replaced(tmp_path: Path) -> None:
    before = crowd.write(Bundle.open(DEMO), tmp_path, 2)
    crowd.replace_first(tmp_path)
    after = Bundle.open(tmp_path).manifest
    changed = [
        a.decoder.sha256 != b.decoder.sha256 for a, b in zip(before.identities, after.identities, strict=True)
    ]
    assert changed == [True, False]


def test_a_graph_without_float_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="no float weights"):
        crowd.varied(b"\x3a\x00", seed=1)


def test_visitors_follow_zipf() -> None:
    counts = Counter(itertools.islice(zipf("abcd", 1.0), 25_000))
    shares = [counts[name] / 25_000 for name in "abcd"]
    assert shares == pytest.approx([0.48, 0.24, 0.16, 0.12], abs=0.02)


def test_warm_ones_beside_cold_ones_are_found() -> None:
    cold = Visit(1.0, 2.0, good=True, cold=True)
    beside = [Visit(0.5, 1.1, True, False), Visit(1.2, 1.3, True, False), Visit(1.9, 3.0, True, False)]
    apart = [Visit(0.0, 1.0, True, False), Visit(2.0, 2.5, True, False)]
    assert beside_cold([*apart, cold, *beside]) == beside


def figures(p95: float) -> dict[str, Any]:
    return {"per_round": 10, "p50_ms": 5.0, "p95_ms": p95, "errors": 0}


def test_the_table_says_which_goals_were_reached() -> None:
    nobody: dict[str, Any] = {"per_round": None, "p50_ms": None, "p95_ms": None}
    row = {
        "concurrency": 8,
        "one": figures(10.0),
        "warm": figures(13.0),
        "warm_beside_cold": nobody,
        "cold": nobody,
        "cold_share": 0.25,
        "warm_p95_over_one": 1.3,
    }
    report = {
        "machine": {"cores": 2, "processor": "an abacus", "python": "3.11"},
        "provider": "cpu",
        "identities": 1000,
        "decoder_file_mib": 3.5,
        "limit_mib": 1024,
        "zipf": 1.0,
        "rounds": 3,
        "seconds": 10.0,
        "start_s": 3.1,
        "memory_idle_mib": 100.0,
        "memory_mib": 1200.0,
        "memory_peak_mib": 1250.0,
        "decoders_loaded": 130,
        "decoders_mib": 1020.0,
        "first_swap_ms": figures(60.0),
        "rows": [row],
        "reload": {"seconds": 0.2, "replaced": ["p00000"], **figures(20.0)},
    }
    assert [reached for _, reached in goals(report)] == [True, True, False]
    text = table(report)
    assert "MISSED   warm p95 over that of one identity, c=8: 1.3, wanted <= 1.2" in text
    assert "cold: 25.0%" in text


def test_what_cannot_be_measured_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bundle", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.identities: there is no bundle folder")
