"""The figures of an evaluation as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = ("face_found", "top1", "d_target", "leak", "landmark_error", "light", "ssim", "psnr")
GROUP_COLUMNS = ("face_found", "top1", "leak", "landmark_error", "light")
VERDICTS = {True: "pass", False: "**fail**", None: "not measured"}


def table(result: Mapping[str, Any]) -> str:
    """Each identity beside the peer and the ends of the scale: a real photo, a copy of the source."""
    lines = _head(("", *COLUMNS))
    peers = (result.get("peer") or {}).get("identities", {})
    for name, row in result["identities"].items():
        lines.append(_line(name, row, COLUMNS))
        if name in peers:
            lines.append(_line(f"{name}: the peer", peers[name], COLUMNS))
        lines.append(_line(f"{name}: a real photo", row["real_photo"], COLUMNS))
    first = next(iter(result["identities"].values()))
    lines.append(_line("a copy of the source", first["copy_of_source"], COLUMNS))
    return "\n".join(lines)


def group_table(groups: Mapping[str, Any]) -> str:
    """A row for every group and identity, then the worst gaps."""
    lines = _head(("group", "identity", "sources", *GROUP_COLUMNS))
    every = {**groups["rows"], "mean": groups["mean"]}
    for group, size in groups["sources"].items():
        lines += [_line(f"{group} | {name} | {size}", every[name][group], GROUP_COLUMNS) for name in every]
    lines += ["", *_head(("identity", "worst gap in points", "group", "figure"))]
    for name, gap in groups["gaps"].items():
        cells = (f"{gap['points']:.1f}", gap["group"], gap["figure"]) if gap else ("-", "-", "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def exposure_table(exposure: Mapping[str, Any]) -> str:
    """Every identity on the darkest and the brightest sources."""
    lines = _head(("sources", "identity", "luma", *GROUP_COLUMNS))
    for part, (low, high) in exposure["luma"].items():
        for name, row in {**exposure["rows"], "mean": exposure["mean"]}.items():
            lines.append(_line(f"{part} | {name} | {low:.0f}-{high:.0f}", row[part], GROUP_COLUMNS))
    return "\n".join(lines)


def gate_table(gates: Sequence[Mapping[str, Any]]) -> str:
    """Every gate, its number and whether it is passed."""
    lines = _head(("gate", "number", "", "threshold", "", "note"))
    for gate in gates:
        value, threshold = (
            "-" if number is None else f"{number:.4g}" for number in (gate["value"], gate["threshold"])
        )
        cells = (gate["name"], value, gate["relation"], threshold, VERDICTS[gate["passed"]], gate["note"])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(gates: Sequence[Mapping[str, Any]]) -> str:
    """How many are passed, in one line."""
    passed, failed, unknown = (
        sum(gate["passed"] is verdict for gate in gates) for verdict in (True, False, None)
    )
    return f"{passed} gates passed, {failed} failed, {unknown} not measured"


def markdown(result: Mapping[str, Any]) -> str:
    """The whole report."""
    parts = [
        f"# {result.get('model', 'An evaluation')}",
        f"{result['sources']} sources, a gallery of {result['gallery']}, judged by {result['judge']}.",
        table(result),
    ]
    if result.get("groups"):
        parts += ["## Groups", group_table(result["groups"])]
    if result.get("exposure"):
        parts += ["## Dark and bright sources", exposure_table(result["exposure"])]
    if result.get("gates"):
        parts += ["## Gates", summary(result["gates"]), gate_table(result["gates"])]
    return "\n\n".join(parts) + "\n"


def _head(names: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def _line(name: str, row: Mapping[str, Any], columns: Sequence[str]) -> str:
    digits = {"psnr": 1}
    values = [(key, row.get(key)) for key in columns]
    cells = ["-" if value is None else f"{value:.{digits.get(key, 2)}f}" for key, value in values]
    return f"| {name} | " + " | ".join(cells) + " |"
