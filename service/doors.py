"""Who comes in: every request passes here, whatever route it asks for, and what is not named needs a key."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.addresses import Networks, client_of, household
from service.cors import ANY
from service.errors import (
    AdminClosedError,
    AdminKeyError,
    ForeignFormError,
    HandlerTimeoutError,
    KeyMissingError,
    KeyScopeError,
    KeyWrongError,
    NotFoundError,
    ServiceError,
)
from service.keyring import Caller, Keyring
from service.keys import Scope as KeyScope
from service.problems import answer_for
from service.rates import FREE, Account, Buckets, Meter, Rate
from service.settings import Settings

PUBLIC = frozenset(
    {
        "/",
        "/docs",
        "/openapi.json",
        "/problems",
        "/health/live",
        "/health/ready",
        "/v2/health/live",
        "/v2/health/ready",
    }
)
"""What anyone may ask: probes, the page, and what tells how to use the service. No photos, no names."""
PUBLIC_BELOW = ("/static/", "/problems/")
SUBPROTOCOL = "faceswapd"
KEY_SUBPROTOCOL = f"{SUBPROTOCOL}.key."
"""Pages cannot give a WebSocket headers: `new WebSocket(url, ["faceswapd", "faceswapd.key." + key])`."""

_QUERY_KEY = re.compile(rb"(?:^|&)key=([^&]*)")
_SECRETS = re.compile(rb"((?:^|&)[\w-]*(?:key|token|secret)=)[^&]*", re.IGNORECASE)
_HEALTH = "/health"
_READING = ("GET", "HEAD", "OPTIONS")


def needed(path: str) -> KeyScope | None:
    """The scope that an address needs; None for the public ones."""
    if path in PUBLIC or path.startswith(PUBLIC_BELOW):
        return None
    if path == "/admin" or path.startswith("/admin/"):
        return KeyScope.ADMIN
    return KeyScope.METRICS if path == "/metrics" else KeyScope.SWAP


class Doors:
    """Pure ASGI: keys, rates, the admin port, the time a handler may take. Refusals are problems."""

    def __init__(self, app: ASGIApp, settings: Settings, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring
        self._trusted = Networks(settings.trusted_proxies)
        self._origins = frozenset(origin.rstrip("/") for origin in settings.cors_origins)
        self._admin_port = settings.admin_port
        self._handler_s = settings.handler_timeout_s
        self._addresses, self._keys = Buckets("address"), Buckets("key")
        self._address_rate = _rate(settings.address_swaps_per_s, settings.address_burst)
        self._key_rate = _rate(settings.key_swaps_per_s, settings.key_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = _route_path(scope)
        scope_needed = needed(path)
        try:
            self._check_port(scope, path, scope_needed)
            meter = self._let_in(scope, scope_needed)
        except ServiceError as error:
            await answer_for(error, scope["state"]["request_id"])(scope, receive, send)
            return
        scope["state"]["meter"] = meter
        if kind == "websocket":
            await self._app(scope, receive, _answering(scope, send))
        elif scope_needed is None:
            await self._app(scope, receive, send)
        else:
            await self._in_time(scope, receive, send, meter)

    def _check_port(self, scope: Scope, path: str, scope_needed: KeyScope | None) -> None:
        """/admin and /metrics, where they have a port, are nowhere else; beside them there is only health."""
        if self._admin_port is None:
            return
        server = scope.get("server")
        there = server is not None and server[1] == self._admin_port
        inside = scope_needed in (KeyScope.ADMIN, KeyScope.METRICS)
        if there != inside and not (there and path.startswith(_HEALTH)):
            raise NotFoundError

    def _let_in(self, scope: Scope, scope_needed: KeyScope | None) -> Meter:
        """What the request pays with, once it has shown its key and paid for the first face."""
        text = _without_secrets(scope)
        if scope_needed is None:
            return FREE
        self._check_page(scope)
        accounts = self._address_account(scope)
        try:
            caller = self._caller(scope, scope_needed, text)
        except ServiceError:
            Meter(accounts).take()  # guessing has its price
            raise
        if caller is not None:
            scope["state"]["caller"] = caller.name
            accounts += self._key_account(caller)
        if not accounts:
            return FREE
        meter = Meter(accounts)
        meter.take()
        return meter

    def _check_page(self, scope: Scope) -> None:
        """Browsers let pages send forms anywhere, only not read the answer; they say that it is so."""
        if scope.get("method", "GET") in _READING:
            return
        origin = None
        foreign = False
        for name, value in scope["headers"]:
            if name == b"sec-fetch-site":
                foreign = value == b"cross-site"
            elif name == b"origin":
                origin = value.decode("latin-1")
        if foreign and ANY not in self._origins and origin not in self._origins:
            raise ForeignFormError

    def _caller(self, scope: Scope, scope_needed: KeyScope, text: str | None) -> Caller | None:
        """None where nobody needs a key."""
        is_admin = scope_needed is KeyScope.ADMIN
        if not is_admin and not self._keyring.is_needed:
            return None
        if is_admin and not self._keyring.has_admin:
            raise AdminClosedError
        text = _key_in_headers(scope) or text
        if text is None:
            raise AdminKeyError if is_admin else KeyMissingError
        try:
            caller = self._keyring.caller(text)
        except KeyWrongError:
            if is_admin:
                raise AdminKeyError from None
            raise
        if scope_needed not in caller.scopes:
            raise KeyScopeError(scope_needed)
        return caller

    def _address_account(self, scope: Scope) -> tuple[Account, ...]:
        if self._address_rate is None:
            return ()
        return (Account(self._addresses, household(client_of(scope, self._trusted)), self._address_rate),)

    def _key_account(self, caller: Caller) -> tuple[Account, ...]:
        """Its own rate where the key has one, else the one that all keys have."""
        rate = self._key_rate
        if caller.swaps_per_s is not None:
            rate = Rate(caller.swaps_per_s, caller.burst or max(round(caller.swaps_per_s), 1))
        return () if rate is None else (Account(self._keys, caller.id, rate),)

    async def _in_time(self, scope: Scope, receive: Receive, send: Send, meter: Meter) -> None:
        """504 where the answer has not begun in time; the time begins when the request is here as a whole.

        Bodies have limits of their own, and a request that needs none of its body has none.
        """
        started = False
        loop = asyncio.get_running_loop()

        async def received() -> Message:
            message = await receive()
            if not started and not message.get("more_body") and not limit.expired():
                limit.reschedule(loop.time() + self._handler_s)
            return message

        async def sent(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if not limit.expired():
                    limit.reschedule(None)
                if meter is not FREE:
                    message["headers"] = [*message.get("headers", ()), *meter.headers()]
            await send(message)

        bodiless = scope["method"] in _READING
        try:
            async with asyncio.timeout(self._handler_s if bodiless else None) as limit:
                await self._app(scope, received, sent)
        except TimeoutError:
            if started or not limit.expired():
                raise
            error = HandlerTimeoutError(self._handler_s)
            await answer_for(error, scope["state"]["request_id"])(scope, receive, send)


def _rate(per_s: float, burst: int) -> Rate | None:
    return Rate(per_s, burst) if per_s else None


def _route_path(scope: Scope) -> str:
    """The path that routes are found by: Starlette takes root_path off it in the same way."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path


def _key_in_headers(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].strip().decode("utf-8", "replace")) or None
        if name == b"x-api-key":
            return str(value.strip().decode("utf-8", "replace")) or None
    return None


def _without_secrets(scope: Scope) -> str | None:
    """Takes keys out of the query, where logs would find them; gives back the one of a WebSocket."""
    query: bytes = scope["query_string"]
    text = None
    if scope["type"] == "websocket":
        offered = scope.get("subprotocols", [])
        keys = [each for each in offered if each.startswith(KEY_SUBPROTOCOL)]
        text = keys[0].removeprefix(KEY_SUBPROTOCOL) if keys else None
        scope["subprotocols"] = [each for each in offered if each not in keys]
        if found := _QUERY_KEY.search(query):
            text = text or unquote(found[1].decode("latin-1"))
            query = _QUERY_KEY.sub(b"", query).lstrip(b"&")
    if b"=" in query:
        query = _SECRETS.sub(rb"\1***", query)
    scope["query_string"] = query
    return text


def _answering(scope: Scope, send: Send) -> Send:
    """Browsers want one of the subprotocols that they offered to be taken."""
    if SUBPROTOCOL not in scope["subprotocols"]:
        return send

    async def sent(message: Message) -> None:
        if message["type"] == "websocket.accept" and message.get("subprotocol") is None:
            message["subprotocol"] = SUBPROTOCOL
        await send(message)

    return sent
