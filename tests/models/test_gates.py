"""The gates: thresholds of one place, met exactly, missed by a little, not measured."""

from __future__ import annotations

from typing import Any

import pytest

from models import gates

JUST: dict[str, Any] = {**gates.AT_LEAST, **gates.AT_MOST}


def verdict(name: str, found: list[gates.Gate]) -> bool | None:
    return next(gate.passed for gate in found if gate.name == name)


def test_the_thresholds_are_those_of_the_task() -> None:
    assert gates.AT_LEAST == {"face_found": 0.99, "top1": 0.95, "light": 0.85, "ssim": 0.90, "psnr": 27.0}
    assert gates.AT_MOST == {"leak": 0.05, "landmark_error": 0.08}
    assert gates.GROUP_GAP == 5 and gates.BUNDLE_BYTES == 25e6
    assert (gates.SWAP_GMAC, gates.DECODER_GMAC) == (1.4, 0.35)


def test_the_threshold_itself_passes() -> None:
    assert all(gate.passed is True for gate in gates.likeness_gates("will", JUST))


@pytest.mark.parametrize("figure", list(JUST))
def test_a_little_less_fails(figure: str) -> None:
    worse = JUST[figure] + (-0.001 if figure in gates.AT_LEAST else 0.001)
    found = gates.likeness_gates("will", JUST | {figure: worse})
    assert [gate.name for gate in found if not gate.passed] == [f"will: {figure}"]


def test_what_was_not_measured_is_not_passed() -> None:
    found = gates.likeness_gates("will", JUST | {"landmark_error": None})
    assert verdict("will: landmark_error", found) is None


def test_a_real_person_has_easier_gates() -> None:
    row = JUST | {"top1": 0.9, "ssim": 0.8}
    assert all(gate.passed for gate in gates.likeness_gates("bush", row, real_person=True))
    assert not all(gate.passed for gate in gates.likeness_gates("bush", row))


def test_the_peer_must_be_beaten() -> None:
    peer = {key: value - 0.01 if key in gates.AT_LEAST else value + 0.01 for key, value in JUST.items()}
    assert all(gate.passed for gate in gates.peer_gates("will", JUST, peer))
    assert not any(gate.passed for gate in gates.peer_gates("will", JUST, JUST)), "a tie is no win"
    best = JUST | {"face_found": 1.0, "leak": -0.02}
    tied = gates.peer_gates("will", best, best)
    assert verdict("will: face_found beside the peer", tied) is True, "but where nothing can be better"
    assert verdict("will: leak beside the peer", tied) is True
    lost = gates.peer_gates("will", JUST, peer | {"landmark_error": None})
    assert verdict("will: landmark_error beside the peer", lost) is True, "no face of the peer's was found"
    assert {gate.passed for gate in gates.peer_gates("will", JUST, None)} == {None}


def test_the_whole_list() -> None:
    gap = {"points": 5.01, "group": "black female", "figure": "top1"}
    result = {
        "identities": {"will": JUST},
        "groups": {"gaps": {"will": gap, "mean": gap | {"points": 4.0}}},
        "cost": {"bytes": 25_000_000, "swap_gmac": 1.41, "decoder_gmac": 0.3},
    }
    verdicts = {gate["name"]: gate["passed"] for gate in gates.check(result)}
    assert verdicts["will: worst group gap"] is False
    assert verdicts["mean of identities: worst group gap"] is True
    assert verdicts["bundle, MB"] is True and verdicts["encoder + decoder, GMAC"] is False
    assert verdicts["will: psnr beside the peer"] is None
    nothing = gates.check({"identities": {"will": JUST}})
    assert {g["passed"] for g in nothing if "group" in g["name"] or "MAC" in g["name"]} == {None}


def test_a_gate_is_one_line() -> None:
    failed = gates.likeness_gates("will", JUST | {"psnr": 26.5})
    lines = [str(gate) for gate in failed]
    assert sum("FAIL" in line for line in lines) == 1
    assert "26.5 >= 27" in next(line for line in lines if "FAIL" in line)
