"""The query of POST /swap as it is on the wire, read once for all who ask the same."""

from __future__ import annotations

from urllib.parse import parse_qsl

from pydantic import ValidationError

from service.schemas import SwapQuery

PATH = b"/swap"
KNOWN, KNOWN_BYTES = 256, 256
"""So many queries are kept, and none that is longer: clients send the same few again and again."""


class Queries:
    """For the event loop only."""

    def __init__(self) -> None:
        self._known: dict[bytes, SwapQuery] = {}

    def known(self, text: bytes) -> SwapQuery | None:
        """One that was asked before."""
        return self._known.get(text)

    def read(self, text: bytes) -> SwapQuery | None:
        """None where the route should say what is wrong with it."""
        query = self._known.get(text)
        if query is None and (query := read_query(text)) is not None and len(text) <= KNOWN_BYTES:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[text] = query
        return query


def read_query(text: bytes) -> SwapQuery | None:
    """As FastAPI reads it: of a parameter that is given twice the last one counts, but all targets do."""
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True):
        given.setdefault(name, []).append(value)
    try:
        return SwapQuery.model_validate(
            {name: values if name == "target" else values[-1] for name, values in given.items()}
        )
    except ValidationError:
        return None
