"""Who comes in: keys and scopes, WebSockets of pages, the admin port, other sites' pages, headers, logs."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from faceswap.errors import BundleError
from service.doors import needed
from service.keys import Scope
from service.safety import SECURITY, WithoutKeys
from tests.service.fakes import FakeSwapper, Gate, make_app, nothing, photo, post, serving
from tests.service.sockets import Client, connected
from tests.service.test_keys import OPERATOR, made
from tests.service.test_problems import expect

pytestmark = pytest.mark.anyio

OPEN = {
    *("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"),
    *("/problems", "/problems/{slug}"),
}
SITE = "https://site.example"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_every_route_needs_a_key_but_the_few_that_are_named() -> None:
    """A route that is new is closed until somebody thinks about it."""
    paths = make_app().openapi()["paths"]
    assert {path for path in paths if needed(path) is None} == OPEN
    assert {path for path in paths if needed(path) is Scope.ADMIN} == {"/admin/reload"}
    for path in (
        "/admin",
        "/admin/",
        "/admin/x",
        "/metrics",
        "/stream",
        "/swap",
        "/swap/",
        "/new",
        "/statics",
    ):
        assert needed(path) is not None
    assert needed("/metrics") is Scope.METRICS
    assert needed("/administrator") is Scope.SWAP


async def test_without_keys_nobody_needs_one() -> None:
    async with serving(make_app()) as client:
        assert (await post(client)).status_code == 200
        assert (await client.get("/health", headers=bearer("whatever"))).status_code == 200


async def test_with_keys_everybody_needs_one() -> None:
    line, key = made()
    async with serving(make_app(keys=line)) as client:
        refused = await post(client)
        expect(refused, "key-missing", "Authorization: Bearer")
        assert refused.headers["www-authenticate"] == "Bearer"
        wrong = await client.get("/identities", headers=bearer(made()[1]))
        expect(wrong, "key-wrong")
        assert wrong.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        for path in ("/health", "/nothing", "/identities/echo/preview", "/stream"):
            expect(await client.get(path), "key-missing")
        for path in ("/", "/static/page.js", "/health/live", "/health/ready", "/problems", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        client.headers["X-API-Key"] = key
        assert (await post(client)).status_code == 200
        assert (await client.get("/nothing")).status_code == 404


@pytest.mark.parametrize(
    "headers", [bearer("KEY"), {"authorization": "bearer  KEY "}, {"x-api-key": "KEY"}, {"X-API-Key": " KEY"}]
)
async def test_ways_to_send_a_key(headers: dict[str, str]) -> None:
    line, key = made()
    async with serving(make_app(keys=line)) as client:
        sent = {name: value.replace("KEY", key) for name, value in headers.items()}
        assert (await client.get("/identities", headers=sent)).status_code == 200


@pytest.mark.parametrize("path", ["/identities?key=KEY", "/identities?x-api-key=KEY"])
async def test_a_key_in_the_address_of_a_request_is_none_and_not_logged(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Addresses are remembered by browsers and logged by proxies."""
    line, key = made()
    with caplog.at_level(logging.DEBUG, "faceswapd"):
        async with serving(make_app(keys=line)) as client:
            expect(await client.get(path.replace("KEY", key)), "key-missing")
            expect(await client.get(f"/identities?key={OPERATOR}"), "key-missing")
    assert "GET /identities 401" in caplog.text
    assert key not in caplog.text and "guesses" not in caplog.text


async def test_a_scope_opens_what_it_is_for() -> None:
    (swap, swaps), (admin, rules), (metrics, sees) = made(), made(Scope.ADMIN), made(Scope.METRICS)
    async with serving(make_app(keys="\n".join([swap, admin, metrics]))) as client:

        async def asked(method: str, path: str) -> list[int]:
            return [
                (await client.request(method, path, headers=bearer(key))).status_code
                for key in (swaps, rules, sees)
            ]

        assert await asked("GET", "/identities") == [200, 403, 403]
        assert await asked("POST", "/admin/reload") == [403, 200, 403]
        assert await asked("GET", "/admin/nothing") == [403, 404, 403]
        refused = await client.get("/identities", headers=bearer(rules))
        expect(refused, "key-scope", "'swap'")
        assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'
        assert 403 not in [(await client.get("/metrics", headers=bearer(key))).status_code for key in (sees,)]
        expect(await client.get("/metrics", headers=bearer(swaps)), "key-scope", "'metrics'")


async def test_the_admin_key_opens_admin_and_nothing_else() -> None:
    async with serving(make_app(keys=made()[0], admin_key=OPERATOR)) as client:
        assert (await client.post("/admin/reload", headers=bearer(OPERATOR))).status_code == 200
        expect(await client.get("/identities", headers=bearer(OPERATOR)), "key-scope")
        expect(await client.post("/admin/reload", headers=bearer(made()[1])), "admin-key")


async def test_keys_for_swaps_alone_leave_admin_closed() -> None:
    line, key = made()
    async with serving(make_app(keys=line)) as client:
        expect(await client.post("/admin/reload", headers=bearer(key)), "admin-closed")


async def test_a_reload_takes_the_keys_even_where_the_bundle_is_refused(tmp_path: Path) -> None:
    (old, first), (new, second), (admin, rules) = made(), made(), made(Scope.ADMIN)
    file = tmp_path / "keys.jsonl"
    file.write_text(f"{old}\n{admin}\n")
    swapper = FakeSwapper()

    def refuse(_: Path) -> FakeSwapper:
        raise BundleError("it is broken")

    swapper.on_reopen = refuse
    async with serving(make_app(swapper, keys_file=file)) as client:
        file.write_text(f"{new}\n{admin}\n")
        assert (await client.get("/identities", headers=bearer(second))).status_code == 401
        expect(await client.post("/admin/reload", headers=bearer(rules)), "reload-refused", "it is broken")
        assert (await client.get("/identities", headers=bearer(second))).status_code == 200
        assert (await client.get("/identities", headers=bearer(first))).status_code == 401
        file.write_text("{")
        expect(await client.post("/admin/reload", headers=bearer(rules)), "reload-refused", "keys.jsonl")
        assert (await client.get("/identities", headers=bearer(second))).status_code == 200


def refusal(client: Client) -> int:
    assert client.accepted is not None
    return int(client.accepted["status"])


async def test_a_stream_without_a_key_is_refused_before_the_handshake() -> None:
    app = make_app(keys=made()[0])
    async with serving(app):
        async with connected(app) as client:
            assert refusal(client) == 401
        async with connected(app, f"target=echo&key={made()[1]}") as client:
            assert refusal(client) == 401


async def test_a_page_sends_its_key_as_a_subprotocol_or_in_the_query(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line, key = made()
    app = make_app(keys=line)
    with caplog.at_level(logging.DEBUG, "faceswapd"):
        async with serving(app):
            offers = ["faceswapd", f"faceswapd.key.{key}"]
            async with connected(app, subprotocols=offers) as client:
                assert client.accepted is not None and client.accepted["type"] == "websocket.accept"
                assert client.accepted["subprotocol"] == "faceswapd"
                client.send(photo())
                assert (await client.report())["frame"] == 0
                await client.picture()
            for query in (
                f"target=echo&key={key}",
                f"key={key}&target=echo",
                f"target=echo&key={key}&face=0",
            ):
                async with connected(app, query.replace("KEY", key)) as client:
                    client.send(photo())
                    assert (await client.report())["frame"] == 0, "the query has no parameter too many"
                    await client.picture()
            async with connected(app, x_api_key=key) as client:
                assert client.accepted is not None and client.accepted["type"] == "websocket.accept"
    assert "WS /stream " in caplog.text and key not in caplog.text


async def test_a_browser_gets_no_subprotocol_that_it_did_not_offer() -> None:
    line, key = made()
    app = make_app(keys=line)
    async with serving(app), connected(app, subprotocols=[f"faceswapd.key.{key}"]) as client:
        assert client.accepted is not None and client.accepted.get("subprotocol") is None


async def test_admin_has_a_port_of_its_own() -> None:
    app = make_app(admin_port=8001, admin_key=OPERATOR)
    async with serving(app) as outside:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service:8001") as inside:
            for client, statuses in (
                (outside, [404, 404, 200, 200, 200]),
                (inside, [200, 404, 404, 404, 200]),
            ):
                asked = [
                    await client.post("/admin/reload", headers=bearer(OPERATOR)),
                    await client.get("/admin/nothing", headers=bearer(OPERATOR)),
                    await client.get("/identities"),
                    await client.get("/"),
                    await client.get("/health/ready"),
                ]
                assert [answer.status_code for answer in asked] == statuses
            expect(await outside.post("/admin/reload"), "not-found")
            expect(await inside.post("/admin/reload"), "admin-key")


async def test_an_app_below_a_prefix_has_its_doors_where_its_routes_are() -> None:
    line, key = made()
    app = make_app(keys=line, admin_key=OPERATOR)
    async with serving(app):
        transport = httpx.ASGITransport(app, root_path="/faces")
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            refused = await client.post("/faces/admin/reload", headers=bearer(key))
            expect(refused, "key-scope")
            assert (await client.post("/faces/admin/reload", headers=bearer(OPERATOR))).status_code == 200


async def test_pages_of_other_sites_are_told_nothing_by_default() -> None:
    async with serving(make_app()) as client:
        answer = await client.get("/identities", headers={"Origin": SITE})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        expect(await client.options("/swap", headers=preflight(SITE)), "method-not-allowed")


def preflight(origin: str) -> dict[str, str]:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    return {"Origin": origin, **asked}


async def test_forms_of_other_sites_are_refused_before_any_work() -> None:
    """A page may post a form anywhere without asking first; browsers name its site in Sec-Fetch-Site."""

    async def sent(client: httpx.AsyncClient, origin: str, site: str) -> httpx.Response:
        headers = {"Origin": origin, "Sec-Fetch-Site": site, "Content-Type": "image/png"}
        return await client.post("/swap?target=echo", content=photo(), headers=headers)

    async with serving(make_app()) as client:
        expect(await sent(client, SITE, "cross-site"), "foreign-page", "FACESWAPD_CORS_ORIGINS")
        assert (await sent(client, "http://service", "same-origin")).status_code == 200
    async with serving(make_app(cors_origins=(SITE,))) as client:
        assert (await sent(client, SITE, "cross-site")).status_code == 200
        expect(await sent(client, "https://other.example", "cross-site"), "foreign-page")


async def test_named_sites_may_call_with_their_key() -> None:
    line, key = made()
    async with serving(make_app(keys=line, cors_origins=(SITE + "/",))) as client:
        asked = await client.options("/swap", headers=preflight(SITE))
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, SITE)
        assert "Authorization" in asked.headers["access-control-allow-headers"]
        assert asked.headers["x-request-id"] and "access-control-allow-credentials" not in asked.headers
        answer = await client.get("/identities", headers={"Origin": SITE, **bearer(key)})
        assert answer.headers["access-control-allow-origin"] == SITE
        assert "X-Face-Box" in answer.headers["access-control-expose-headers"]
        refused = await client.get("/identities", headers={"Origin": SITE})
        expect(refused, "key-missing")
        assert refused.headers["access-control-allow-origin"] == SITE, "so that the page can read why"
        other = await client.get("/identities", headers={"Origin": "https://other.example", **bearer(key)})
        assert "access-control-allow-origin" not in other.headers and other.headers["vary"] == "Origin"
        for origin in ("https://other.example", f"{SITE}.other.example", "null"):
            assert (
                "access-control-allow-origin"
                not in (await client.options("/swap", headers=preflight(origin))).headers
            )


async def test_any_site_may_call_where_that_is_said() -> None:
    async with serving(make_app(cors_origins=("*",))) as client:
        answer = await client.get("/identities", headers={"Origin": SITE})
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_every_answer_has_the_headers_of_safety() -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    swapper = FakeSwapper()
    async with serving(make_app(swapper)) as client:
        answers = [await client.get("/identities"), await client.get("/nothing"), await post(client)]
        swapper.on_find = fail
        answers.append(await post(client))
        page = await client.get("/")
    assert [answer.status_code for answer in answers] == [200, 404, 200, 500]
    for answer in answers:
        for name, value in SECURITY.items():
            assert answer.headers.get_list(name.decode()) == [value.decode()]
    assert len(page.headers.get_list("content-security-policy")) == 1
    assert "script-src 'self'" in page.headers["content-security-policy"], "the page's own policy stands"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


async def test_an_answer_that_does_not_begin_is_a_504_with_its_id() -> None:
    app = make_app(handler_timeout_s=0.05)

    @app.get("/hangs")
    async def hangs() -> None:
        await asyncio.sleep(60)

    async with serving(app) as client:
        expect(await client.get("/hangs"), "handler-timeout", "0.05 s")
        assert (await client.get("/health/live")).status_code == 200


async def test_the_time_of_a_handler_begins_when_the_body_is_here() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_encode = gate
    async with serving(make_app(swapper, handler_timeout_s=0.3)) as client:

        async def slowly() -> AsyncIterator[bytes]:
            for part in (photo()[:99], photo()[99:]):
                await asyncio.sleep(0.25)
                yield part

        headers = {"Content-Type": "image/png"}
        swapper.on_encode = nothing
        assert (await client.post("/swap?target=echo", content=slowly(), headers=headers)).status_code == 200
        swapper.on_encode = gate
        expect(await post(client), "handler-timeout")
        gate.open()


def test_no_secret_of_a_key_is_in_a_line_of_the_log() -> None:
    _, key = made()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(WithoutKeys())
    log = logging.Logger("test")
    log.addHandler(handler)
    log.info("a key %s in the arguments", key)
    log.info(f"a key {key} in the message and 100%")
    log.info("no key, %d", 1)
    lines = stream.getvalue().splitlines()
    assert lines[0] == f"a key {'_'.join(key.split('_')[:2])}_*** in the arguments"
    assert lines[1].endswith("_*** in the message and 100%") and lines[2] == "no key, 1"
