"""The gates of a bundle that ships: every threshold in one place, and which of them are passed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

FACE_FOUND = 0.99
TOP1 = 0.95
LEAK = 0.05
LANDMARK_ERROR = 0.08
"""As a share of the eye distance."""
LIGHT = 0.85
SSIM = 0.90
PSNR = 27.0
"""dB, as SSIM inside the face of held-out photos."""
GROUP_GAP = 5.0
"""Points, hundredths of a figure's unit, that a group may lie behind the mean over all groups."""
BUNDLE_BYTES = 25e6
SWAP_GMAC = 1.4
"""Encoder and decoder for one face."""
DECODER_GMAC = 0.35

AT_LEAST = {"face_found": FACE_FOUND, "top1": TOP1, "light": LIGHT, "ssim": SSIM, "psnr": PSNR}
AT_MOST = {"leak": LEAK, "landmark_error": LANDMARK_ERROR}
REAL_PERSON = {"top1": 0.90, "ssim": 0.80}
"""A real person's photos are harder than renders: these replace the thresholds above."""
PERFECT = {"face_found": 1.0, "top1": 1.0, "light": 1.0, "ssim": 1.0, "leak": 0.0, "landmark_error": 0.0}
"""Where a figure cannot be better: a tie with the peer there is no failure."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One comparison; `passed` is None where nothing was measured."""

    name: str
    value: float | None
    relation: str
    threshold: float | None
    passed: bool | None
    note: str = ""

    def __str__(self) -> str:
        verdict = {True: "pass", False: "FAIL", None: "not measured"}[self.passed]
        value = "-" if self.value is None else f"{self.value:.4g}"
        threshold = "-" if self.threshold is None else f"{self.threshold:.4g}"
        note = f"  ({self.note})" if self.note else ""
        return f"{verdict:>12}  {self.name:<36} {value:>8} {self.relation} {threshold}{note}"


def check(result: Mapping[str, Any], real_people: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Every gate for a result of models.evaluate, as plain dictionaries for its JSON."""
    real, gates = set(real_people), []
    for name, row in result["identities"].items():
        gates += likeness_gates(name, row, real_person=name in real)
        gates.append(group_gate(name, (result.get("groups") or {}).get("gaps", {}).get(name)))
    gates.append(group_gate("mean of identities", (result.get("groups") or {}).get("gaps", {}).get("mean")))
    for name, row in result["identities"].items():
        gates += peer_gates(name, row, (result.get("peer") or {}).get("identities", {}).get(name))
    gates += size_gates(result.get("cost") or {})
    return [asdict(gate) for gate in gates]


def likeness_gates(name: str, row: Mapping[str, Any], *, real_person: bool = False) -> list[Gate]:
    """The seven figures of one identity."""
    relaxed = REAL_PERSON if real_person else {}
    gates = []
    for key in (*AT_LEAST, *AT_MOST):
        threshold = relaxed.get(key, AT_LEAST.get(key, AT_MOST.get(key, 0.0)))
        note = "a real person" if key in relaxed else ""
        gates.append(_gate(f"{name}: {key}", row.get(key), threshold, above=key in AT_LEAST, note=note))
    return gates


def group_gate(name: str, gap: Mapping[str, Any] | None) -> Gate:
    """The worst group's distance behind the mean; `gap` as in models.groups."""
    note = f"{gap['group']}, {gap['figure']}" if gap else "needs --groups"
    return _gate(
        f"{name}: worst group gap", gap["points"] if gap else None, GROUP_GAP, above=False, note=note
    )


def peer_gates(name: str, row: Mapping[str, Any], peer: Mapping[str, Any] | None) -> list[Gate]:
    """Better than the peer in every figure; a leak below zero is as good as none."""
    gates = []
    for key in (*AT_LEAST, *AT_MOST):
        ours, theirs = row.get(key), peer.get(key) if peer else None
        passed, note = None, "" if peer else "needs --peer"
        if peer and theirs is None and ours is not None:
            passed, note = True, "nothing of the peer's could be measured"
        elif ours is not None and theirs is not None:
            a, b = (max(ours, 0.0), max(theirs, 0.0)) if key == "leak" else (ours, theirs)
            passed = (a > b if key in AT_LEAST else a < b) or a == b == PERFECT.get(key)
        relation = ">" if key in AT_LEAST else "<"
        gates.append(Gate(f"{name}: {key} beside the peer", ours, relation, theirs, passed, note))
    return gates


def size_gates(cost: Mapping[str, Any]) -> list[Gate]:
    """The bundle's bytes and the work for one face; `cost` as in models.cost."""
    return [
        _gate("bundle, MB", _scaled(cost.get("bytes"), 1e-6), BUNDLE_BYTES / 1e6, above=False),
        _gate("encoder + decoder, GMAC", cost.get("swap_gmac"), SWAP_GMAC, above=False),
        _gate("decoder, GMAC", cost.get("decoder_gmac"), DECODER_GMAC, above=False),
    ]


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _gate(name: str, value: float | None, threshold: float, *, above: bool, note: str = "") -> Gate:
    passed = None if value is None else (value >= threshold if above else value <= threshold)
    return Gate(name, value, ">=" if above else "<=", threshold, passed, note)
