"""API keys: what the command shows and stores, and what a ring of them lets in."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.errors import KeyWrongError
from service.keyring import Keyring, check_doors
from service.keys import Key, KeysError, Scope, main, parts_of, read_keys
from service.settings import Settings

OPERATOR = "a key that nobody guesses"


def made(*scopes: Scope, name: str = "web", **more: object) -> tuple[str, str]:
    """A line of the file and the key's text."""
    key, text = Key.made(name, scopes or (Scope.SWAP,), **more)
    return key.to_line(), text


def ring(*lines: str, **settings: Any) -> Keyring:
    return Keyring(Settings(keys="\n".join(lines), **settings))


def test_the_command_shows_the_key_once_and_stores_its_hash(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["new", "--name", "web", "--scope", "swap", "--scope", "metrics", "--days", "2"]) == 0
    line, shown = capsys.readouterr()
    text = shown.split()[-1]
    parts = parts_of(text)
    assert parts is not None and parts.secret not in line and line.count("\n") == 1
    assert json.loads(line)["scopes"] == ["metrics", "swap"]
    assert ring(line).caller(text).name == "web"
    file = tmp_path / "keys.jsonl"
    file.write_text(f"# ours\n\n{line}")
    assert main(["list", str(file)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{parts.id} web metrics,swap until ") and json.loads(line)["sha256"] not in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "nowhere.jsonl"],
        ["new", "--scope", "swap", "--name", "two words"],
        ["new", "--scope", "swap", "--name", "x", "--swaps-per-s", "-1"],
    ],
)
def test_what_the_command_cannot_do_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, told = capsys.readouterr()
    assert (out, told.count("\n")) == ("", 1)


def test_keys_and_salts_are_never_the_same_twice() -> None:
    (first, one), (second, other) = made(), made()
    assert one != other
    assert json.loads(first)["salt"] != json.loads(second)["salt"]


def test_a_key_is_known_by_all_of_it() -> None:
    line, text = made()
    keyring = ring(line, made()[0])
    assert keyring.caller(text).scopes == {Scope.SWAP}
    other = made()[1]
    swapped = "_".join([*text.split("_", 2)[:2], other.split("_", 2)[2]])
    for wrong in (other, swapped, text[:-1], text + "x", text.upper(), "", "fswd_", "fswd_é_ü", "\0"):
        with pytest.raises(KeyWrongError):
            keyring.caller(wrong)


def test_an_expired_key_is_none() -> None:
    now = datetime.now(UTC)
    keyring_lines = [made(expires=now - timedelta(seconds=1)), made(expires=now + timedelta(hours=1))]
    keyring = ring(*(line for line, _ in keyring_lines))
    with pytest.raises(KeyWrongError):
        keyring.caller(keyring_lines[0][1])
    assert keyring.caller(keyring_lines[1][1]).name == "web"


def test_the_operators_key_is_for_admin_only() -> None:
    keyring = ring(admin_key=OPERATOR)
    assert keyring.caller(OPERATOR).scopes == {Scope.ADMIN, Scope.METRICS}
    assert not keyring.is_needed, "it closes nothing but /admin"
    with pytest.raises(KeyWrongError):
        ring().caller(OPERATOR)


def broken(**change: object) -> str:
    return json.dumps(json.loads(made()[0]) | change)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2"),
        ("[]", "line 2"),
        (broken(salt=""), "salt"),
        (broken(sha256="0"), "sha256"),
        (broken(scopes=[]), "scopes"),
        (broken(scopes=["everything"]), "scopes"),
        (broken(name="a\nb"), "name"),
        (broken(more=1), "more"),
        (broken(created="2026-01-01T00:00:00"), "created"),
    ],
)
def test_a_line_that_is_no_key_is_told_by_its_number(line: str, words: str) -> None:
    with pytest.raises(KeysError, match=words) as caught:
        read_keys(f"{made()[0]}\n{line}", "keys.jsonl")
    assert "\n" not in str(caught.value)


def test_an_id_that_comes_twice_is_refused() -> None:
    line = made()[0]
    with pytest.raises(KeysError, match=r"line 2: the id .* comes twice"):
        read_keys(f"{line}\n{line}", "keys.jsonl")


def test_a_file_is_read_anew_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    (old, first), (new, second) = made(), made()
    file = tmp_path / "keys.jsonl"
    file.write_text(old)
    keyring = Keyring(Settings(keys_file=file))
    file.write_text(new)
    keyring.caller(first)
    keyring.reload()
    keyring.caller(second)
    with pytest.raises(KeyWrongError):
        keyring.caller(first)
    for spoil in (lambda: file.write_text("{"), lambda: file.write_bytes(b"\xff\xfe"), file.unlink):
        spoil()
        with pytest.raises(KeysError, match=r"keys\.jsonl"):
            keyring.reload()
        assert keyring.caller(second).name == "web"
    file.write_text("")
    keyring.reload()
    assert keyring.is_needed and len(keyring) == 0, "all are revoked, and nobody is let in for that"


@pytest.mark.parametrize("settings", [{"keys": "# none"}, {"keys_file": "nowhere.jsonl"}])
def test_keys_that_are_none_are_told_at_the_start(settings: dict[str, Any]) -> None:
    with pytest.raises(KeysError, match=r"FACESWAPD_KEYS|nowhere\.jsonl"):
        Keyring(Settings.model_validate(settings))


@pytest.mark.parametrize(
    ("settings", "starts"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "127.9.9.9"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": ""}, False),
        ({"host": "::"}, False),
        ({"host": "192.0.2.1"}, False),
        ({"host": "host.example"}, False),
        ({"host": "0.0.0.0", "anyone_may_swap": True}, True),
        ({"host": "0.0.0.0", "keys": made()[0]}, True),
        ({"host": "0.0.0.0", "admin_key": OPERATOR}, False),
        ({"host": "0.0.0.0", "published_on": ("127.0.0.1", "::1")}, True),
        ({"host": "0.0.0.0", "published_on": ("127.0.0.1", "0.0.0.0")}, False),
    ],
)
def test_where_others_can_reach_it_keys_are_needed(settings: dict[str, Any], starts: bool) -> None:
    if starts:
        check_doors(Settings(**settings))
    else:
        with pytest.raises(KeysError, match=r"service\.keys new .*FACESWAPD_ANYONE_MAY_SWAP=true"):
            check_doors(Settings(**settings))


def test_no_key_is_in_what_settings_show() -> None:
    line = made()[0]
    assert json.loads(line)["sha256"] not in repr(Settings(keys=line))


def test_a_full_disk_shows_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    assert main(["new", "--name", "web", "--scope", "swap"]) == 2
    assert "fswd_" not in capsys.readouterr().err
