"""API keys: made, stored as salted hashes, compared in constant time. `python -m service.keys new` makes one.

A key is `fswd_ID_SECRET`. The secret has 256 random bits, so nobody guesses it, whatever hash keeps it: a
salted SHA-256 (as HMAC) suffices, and costs a request a microsecond instead of the tenths of a second
that hashes for passwords take on purpose.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import re
import secrets
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

PREFIX = "fswd"
_KEY = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})")
_SALT_BYTES = 16

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]


class Scope(StrEnum):
    """What a key is for. Each is on its own: a key for `admin` swaps nothing."""

    SWAP = "swap"
    METRICS = "metrics"
    ADMIN = "admin"


class KeysError(Exception):
    """The keys cannot be read; the message is one line, without anything of a key."""


class Key(BaseModel):
    """A line of the file: all but the secret, of which the hash alone is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    salt: Annotated[Hex, Field(min_length=2 * _SALT_BYTES, max_length=2 * _SALT_BYTES)]
    sha256: Annotated[Hex, Field(min_length=64, max_length=64)]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    swaps_per_s: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] | None = None

    @classmethod
    def made(cls, name: str, scopes: Iterable[Scope], **more: object) -> tuple[Self, str]:
        """A new one, and its text: the only time that anyone sees it."""
        shown, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), os.urandom(_SALT_BYTES)
        line = {
            "id": shown,
            "name": name,
            "scopes": frozenset(scopes),
            "salt": salt.hex(),
            "sha256": hashed(salt, secret).hex(),
            "created": datetime.now(UTC).replace(microsecond=0),
        }
        return cls.model_validate(line | more), f"{PREFIX}_{shown}_{secret}"

    def to_line(self) -> str:
        data = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(data | {"scopes": sorted(data["scopes"])})

    def fits(self, secret: str) -> bool:
        """In a time that tells nothing of the hash."""
        return hmac.compare_digest(hashed(bytes.fromhex(self.salt), secret), bytes.fromhex(self.sha256))

    def is_over(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


class Parts(NamedTuple):
    id: str
    secret: str


def hashed(salt: bytes, secret: str) -> bytes:
    return hmac.digest(salt, secret.encode(), hashlib.sha256)


def parts_of(text: str) -> Parts | None:
    """Of the text of a key; None for what is none."""
    found = _KEY.fullmatch(text)
    return Parts(found[1], found[2]) if found else None


def read_keys(text: str, where: str) -> list[Key]:
    """One key a line; empty lines and those that begin with # are passed over. Raises KeysError."""
    keys: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = Key.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            what = ".".join(str(part) for part in first["loc"]) or "the line"
            raise KeysError(f"{where}, line {number}: {what}: {first['msg'].splitlines()[0]}") from None
        if key.id in keys:
            raise KeysError(f"{where}, line {number}: the id {key.id} comes twice")
        keys[key.id] = key
    return list(keys.values())


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        (_new if options.command == "new" else _list)(options)
    except (KeysError, OSError, ValidationError) as error:
        sys.stderr.write(f"keys: {str(error).partition(chr(10))[0]}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m service.keys", description="API keys of the service.")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="the key goes to stderr, once; its line for the file to stdout")
    new.add_argument("--name", required=True, help="whose it is, for the log and the list")
    new.add_argument("--scope", required=True, action="append", choices=list(Scope), type=Scope)
    new.add_argument("--days", type=int, help="how long it holds; by default for ever")
    new.add_argument("--swaps-per-s", type=float, help="its own rate, instead of FACESWAPD_KEY_SWAPS_PER_S")
    new.add_argument("--burst", type=int, help="its own burst, instead of FACESWAPD_KEY_BURST")
    listed = commands.add_parser("list", help="what a file holds; it is checked on the way")
    listed.add_argument("file", type=Path)
    return parser


def _new(options: argparse.Namespace) -> None:
    expires = None
    if options.days is not None:
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=options.days)
    key, text = Key.made(
        options.name, options.scope, expires=expires, swaps_per_s=options.swaps_per_s, burst=options.burst
    )
    sys.stdout.write(key.to_line() + "\n")
    sys.stdout.flush()  # a full disk is told here, before anyone trusts the key
    sys.stderr.write(f"The key of {key.name}, shown this once:\n{text}\n")


def _list(options: argparse.Namespace) -> None:
    now = datetime.now(UTC)
    for key in read_keys(options.file.read_text(), str(options.file)):
        until = "for ever" if key.expires is None else f"until {key.expires:%Y-%m-%d %H:%M} UTC"
        over = " (over)" if key.is_over(now) else ""
        sys.stdout.write(f"{key.id} {key.name} {','.join(sorted(key.scopes))} {until}{over}\n")


if __name__ == "__main__":
    sys.exit(main())
