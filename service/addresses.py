"""Addresses: this machine's own, those of proxies that are believed, and whom a request comes from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NOWHERE = "-"
"""Stands for clients without an address: a Unix socket, or a test in the same process."""
_IPV6_OF_ONE = 64
"""A provider gives a customer 64 bits at least, so the other 64 are of one and the same client."""
_FORWARDED = b"x-forwarded-for"


def is_this_machine(host: str) -> bool:
    """Do only programs of this machine reach what listens there?"""
    if host in ("localhost", ""):
        return host == "localhost"
    address = _address(host)
    return address is not None and address.is_loopback


class Networks:
    """The proxies whose word is taken. ValueError names what is neither an address nor a network."""

    def __init__(self, names: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(name, strict=False) for name in names]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


def client_of(scope: Mapping[str, Any], trusted: Networks) -> str:
    """The client's address: the socket's, or what the trusted proxies before it say.

    X-Forwarded-For is read from its end, where the nearest proxy writes; the first address that is not
    a trusted proxy's is the client. What stands before it the client may have made up.
    """
    client = scope.get("client")
    peer: str = client[0] if client else NOWHERE
    if not trusted or peer not in trusted:
        return peer
    hops = b",".join(value for name, value in scope["headers"] if name == _FORWARDED).decode("latin-1")
    for hop in reversed(hops.split(",")):
        address = _address(hop.strip())
        if address is None:
            break
        peer = str(address)
        if peer not in trusted:
            break
    return peer


def household(address: str) -> str:
    """What counts as one client: an IPv4 address, or the network of 64 bits of an IPv6 one."""
    if ":" not in address:
        return address
    parsed = _address(address)
    if parsed is None or parsed.version == 4:
        return address if parsed is None else str(parsed)
    return str(ipaddress.ip_network((parsed, _IPV6_OF_ONE), strict=False))


def _address(text: str) -> Address | None:
    """None for what is none; an IPv4 address that is written as IPv6 (::ffff:1.2.3.4) is IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
