"""The sizing is the formula of docs/deploy.md, and the document shows what the command prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sizing import Box, Size, Wanted, box_of, main, size

DOCUMENT = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()


def test_boxes_are_rate_over_usable_capacity() -> None:
    box = Box(cores=2, swaps_per_s=50, case="x")
    assert size(box, Wanted(1000, 10, 0.5, 10)) == Size(boxes=40, groups=1, boxes_in_groups=40)
    assert size(box, Wanted(1001, 21, 0.5, 10)) == Size(boxes=41, groups=3, boxes_in_groups=42)


def test_one_box_may_fail() -> None:
    assert size(Box(2, 50, "x"), Wanted(1, 20, 1, 10)) == Size(boxes=2, groups=2, boxes_in_groups=4)


def test_the_best_row_of_the_case_counts() -> None:
    rows: list[dict[str, object]] = [
        {"name": "a", "swaps_per_s": 3},
        {"name": "a", "swaps_per_s": 5, "kind": "service"},
        {"name": "a", "swaps_per_s": 7, "kind": "peer fp32"},
        {"name": "b", "swaps_per_s": 9},
    ]
    report = {"machine": {"cores": 4}, "rows": rows}
    assert box_of(report, "a") == Box(4, 5, "a")
    with pytest.raises(ValueError, match="it has: a, b"):
        box_of(report, "c")


def test_the_document_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out in DOCUMENT, "run `python -m benchmarks.sizing` and put its table there"


def test_a_missing_report_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--results", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.sizing: ")


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"rows": 3}', '{"rows": [{}]}', "\udcff"])
def test_what_is_no_report_is_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert main(["--results", str(file)]) == 2
    assert f"{file} is no report of benchmarks.serving: " in capsys.readouterr().err


def test_a_case_that_the_report_lacks_is_told_with_those_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--case", "none"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("benchmarks.sizing: the report has no rows 'none'; it has: ")
    assert "250 px photo" in told
