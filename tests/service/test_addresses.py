"""Whom a request comes from, with proxies that are believed and proxies that are not."""

from __future__ import annotations

from typing import Any

import pytest

from service.addresses import NOWHERE, Networks, client_of, household
from service.settings import Settings

PROXIES = Networks(["10.0.0.0/8", "2001:db8::1"])


def request(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"client": None if peer is None else (peer, 1), "headers": headers}


@pytest.mark.parametrize(
    ("scope", "client"),
    [
        (request("192.0.2.7"), "192.0.2.7"),
        (request("192.0.2.7", "198.51.100.1"), "192.0.2.7"),
        (request("10.0.0.1", "198.51.100.1"), "198.51.100.1"),
        (request("10.0.0.1", "203.0.113.9, 198.51.100.1"), "198.51.100.1"),
        (request("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.2.3.4"), "198.51.100.1"),
        (request("10.0.0.1", "203.0.113.9", "198.51.100.1"), "198.51.100.1"),
        (request("10.0.0.1", "10.0.0.2, 10.0.0.3"), "10.0.0.2"),
        (request("10.0.0.1", "made up"), "10.0.0.1"),
        (request("10.0.0.1", "198.51.100.1, "), "10.0.0.1"),
        (request("10.0.0.1"), "10.0.0.1"),
        (request("2001:db8::1", "2001:db8:1::5"), "2001:db8:1::5"),
        (request("::ffff:10.0.0.1", "198.51.100.1"), "198.51.100.1"),
        (request(None, "198.51.100.1"), NOWHERE),
    ],
)
def test_the_nearest_address_that_no_proxy_has_is_the_client(scope: dict[str, Any], client: str) -> None:
    assert client_of(scope, PROXIES) == client


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert client_of(request("10.0.0.1", "198.51.100.1"), Networks([])) == "10.0.0.1"


def test_one_client_has_one_household() -> None:
    assert household("192.0.2.7") == "192.0.2.7"
    assert household("::ffff:192.0.2.7") == "192.0.2.7"
    assert household("2001:db8::1") == household("2001:db8::ffff:0:0:1")
    assert household("2001:db8::1") != household("2001:db8:0:1::1")
    assert household("fe80::1%eth0") == household("fe80::2%eth0")
    assert household(NOWHERE) == NOWHERE


def test_a_wrong_network_is_told_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        Settings.model_validate({"trusted_proxies": "127.0.0.1, 10.0.0.0/99"})
