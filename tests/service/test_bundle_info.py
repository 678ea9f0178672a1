"""What an operator is told at a terminal: of a bundle, of the settings, and of mistakes in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from service import bundle_info
from service.__main__ import main as serve
from service.bundle_info import table
from service.settings import Settings


def test_a_table_of_everybody_with_consent(identity_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle_info.main([str(identity_bundle)]) == 0
    text = capsys.readouterr().out
    first, encoder, _, heads, rule, *rows = text.splitlines()
    assert first.startswith("identity-network, made ") and "all as the manifest says" in first
    assert encoder.startswith("encoder ") and "fp32" in encoder
    assert heads.split()[:3] == ["identity", "decoder", "MB"] and set(rule) == {"-", " "}
    assert sorted(row.split()[0] for row in rows) == ["cutout", "echo", "negative"]
    assert all("synthetic" in row for row in rows)
    starts = {row.index("synthetic") for row in rows}
    assert starts == {heads.index("consent")}, "columns stand below their heads"


def test_json_has_all_figures(identity_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle_info.main([str(identity_bundle), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    echo = next(entry for entry in told["identities"] if entry["name"] == "echo")
    assert echo["consent"].keys() == {"kind", "given_by", "date", "purpose"}
    assert echo["bytes"] > 0 and echo["parity"]["samples"] >= 1
    assert told["bytes"] > echo["bytes"] and told["encoder"]["variants"] == {}


def test_the_demo_bundle_shows_its_gates_and_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    assert bundle_info.main([str(Path(__file__).parents[2] / "bundles" / "demo")]) == 0
    text = capsys.readouterr().out
    assert "int8 0.9" in text and "synthetic" in text


def test_a_damaged_bundle_and_no_bundle_are_one_line(
    identity_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(identity_bundle, tmp_path / "bundle"))
    next((folder / "decoders").iterdir()).write_bytes(b"damaged")
    for each in (folder, tmp_path / "absent", folder / "manifest.json"):
        assert bundle_info.main([str(each)]) == 2
        line = capsys.readouterr().err
        assert line.startswith("service.bundle_info: ") and line.count("\n") == 1


def test_long_cells_are_cut_and_lines_are_one_line() -> None:
    text = table(("a", "b"), [("x" * 99, "two\nlines")])
    assert text.splitlines()[2] == "x" * 29 + "...  two lines"


def test_help_has_examples_and_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        serve(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert "examples:" in text and "python -m service --device cuda" in text
    options = ("host", "port", "bundle", "device", "precision", "log_level", "log_format")
    for name in Settings.model_fields:
        shown = f"--{name.replace('_', '-')} " if name in options else f"FACESWAPD_{name.upper()} "
        assert text.count(shown) >= 1, name
    assert max(map(len, text.splitlines())) <= 120
