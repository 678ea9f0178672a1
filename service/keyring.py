"""The keys that open the service: read at the start, read anew on request, found by their id."""

from __future__ import annotations

import hmac
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.errors import KeyWrongError
from service.keys import Key, KeysError, Scope, hashed, parts_of, read_keys
from service.settings import Settings

log = logging.getLogger("faceswapd.keyring")

_OPERATOR = "FACESWAPD_ADMIN_KEY"
_NOBODY = hashed(bytes(16), "nobody")
"""What the secret of an unknown id is compared with, so that it takes as long as that of a known one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from, once its key was seen."""

    id: str
    name: str
    scopes: frozenset[Scope]
    swaps_per_s: float | None = None
    burst: int | None = None


class Keyring:
    """For the event loop only. Keys are swapped all at once: a request sees the old ones or the new."""

    def __init__(self, settings: Settings) -> None:
        """Raises KeysError where the keys cannot be read, or there are none in what should have some."""
        self._file: Path | None = settings.keys_file
        self._text = settings.keys
        self._salt = os.urandom(16)
        key = settings.admin_key
        self._operator = None if key is None else hashed(self._salt, key.get_secret_value())
        self._keys = self._read()
        if self.is_needed and not self._keys:
            raise KeysError(
                f"there is no key in {self._where()}; make one: python -m service.keys new --help"
            )

    @property
    def is_needed(self) -> bool:
        """Must a swap have a key? As soon as keys are configured, be they all revoked since."""
        return self._file is not None or bool(self._text.strip())

    @property
    def has_admin(self) -> bool:
        return self._operator is not None or any(Scope.ADMIN in key.scopes for key in self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def reload(self) -> None:
        """What the file holds now. KeysError where it cannot be read, and the old keys go on."""
        fresh = self._read()
        gone, come = self._keys.keys() - fresh.keys(), fresh.keys() - self._keys.keys()
        self._keys = fresh
        if gone or come:
            log.info("keys: %d, of them new: %d; revoked: %d", len(fresh), len(come), len(gone))
        if self.is_needed and not fresh:
            log.warning("there is no key left: nobody may swap")

    def caller(self, text: str) -> Caller:
        """Whose key `text` is. KeyWrongError for an unknown, revoked or expired one."""
        given = parts_of(text)
        if given is None:
            return self._as_operator(text)
        key = self._keys.get(given.id)
        if key is None:
            hmac.compare_digest(hashed(self._salt, given.secret), _NOBODY)
            raise KeyWrongError
        if not key.fits(given.secret) or key.is_over(datetime.now(UTC)):
            raise KeyWrongError
        return Caller(key.id, key.name, key.scopes, key.swaps_per_s, key.burst)

    def _as_operator(self, text: str) -> Caller:
        right = hmac.compare_digest(hashed(self._salt, text), self._operator or _NOBODY)
        if not right or self._operator is None:
            raise KeyWrongError
        return Caller(_OPERATOR, _OPERATOR, frozenset({Scope.ADMIN, Scope.METRICS}))

    def _read(self) -> dict[str, Key]:
        keys = read_keys(self._text, "FACESWAPD_KEYS")
        if self._file is not None:
            try:
                keys += read_keys(self._file.read_text(), str(self._file))
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not text"
                raise KeysError(f"cannot read the keys in {self._file}: {reason}") from None
        return {key.id: key for key in keys}

    def _where(self) -> str:
        return str(self._file) if self._file is not None else "FACESWAPD_KEYS"


def check_doors(settings: Settings) -> None:
    """KeysError where other machines can reach a service that asks nobody for a key, or keys are broken."""
    has_keys = settings.keys_file is not None or settings.keys.strip()
    if settings.is_open_to_others() and not has_keys and not settings.anyone_may_swap:
        where = ", ".join(settings.published_on or (settings.host,))
        raise KeysError(
            f"other machines can reach {where}, and there are no API keys. Make one: "
            "python -m service.keys new --name web --scope swap >> keys.jsonl, and set "
            "FACESWAPD_KEYS_FILE=keys.jsonl; or let everyone in: FACESWAPD_ANYONE_MAY_SWAP=true"
        )
    Keyring(settings)
