"""The API's description is as it was looked at last: a change that a client notices is never an accident."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.write_openapi import SNAPSHOT, description


def leaves(node: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every value with its address, such as `paths /swap post summary`."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{path} {key}")
    elif isinstance(node, list) and node:
        for number, value in enumerate(node):
            yield from leaves(value, f"{path} {number}")
    else:
        yield path.strip(), json.dumps(node)


def test_the_description_is_as_it_was_looked_at_last() -> None:
    now, then = dict(leaves(description())), dict(leaves(json.loads(SNAPSHOT.read_text())))
    changes = [
        *(f"new: {path} = {now[path]}" for path in sorted(now.keys() - then.keys())),
        *(f"gone: {path} = {then[path]}" for path in sorted(then.keys() - now.keys())),
        *(f"{p}: {then[p]} -> {now[p]}" for p in sorted(now.keys() & then.keys()) if now[p] != then[p]),
    ]
    told = "\n".join(changes[:20] + [f"and {len(changes) - 20} more"] * (len(changes) > 20))
    assert not changes, f"/openapi.json has changed; where that is meant, run `make openapi`:\n{told}"
