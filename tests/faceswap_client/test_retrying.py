"""A service that is full is asked again, as it wishes; one that refuses is not."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate

import httpx
import pytest

import faceswap_client as fc
from faceswap_client.retrying import retry_after_s
from service.lifecycle import Phase
from tests.service.fakes import FakeSwapper, Gate, make_app, parts_of, photo, until

pytestmark = pytest.mark.anyio

Reply = tuple[int, dict[str, str], bytes]


@contextmanager
def scripted(*replies: Reply) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers, one after the other; its address and what came in."""
    left, seen = list(replies), list[str]()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            seen.append(f"{self.path} {self.headers.get('Authorization', '-')}")
            status, headers, body = left.pop(0)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


FULL: Reply = (503, {"Retry-After": "0", "Content-Type": "application/problem+json"},
               b'{"type": "/problems/queue-full", "status": 503, "detail": "full"}')  # fmt: skip
PICTURE: Reply = (200, {"Content-Type": "image/png"}, b"picture")
QUICK = fc.Retries(times=3, first_s=0.01)


async def test_a_starting_service_is_waited_for_by_retry_after() -> None:
    """The real app, whose 503 asks for a second."""
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_warm_up = gate
    app = make_app(swapper)
    async with app.router.lifespan_context(app):
        await gate.reached()
        async with fc.AsyncClient("http://service", transport=httpx.ASGITransport(app)) as client:
            assert not await client.ready()
            begun = time.monotonic()
            gate_opener = threading.Timer(0.1, gate.open)
            gate_opener.start()
            picture = await client.swap(photo(), "echo", crop="none")
            assert picture.target == "echo" and time.monotonic() - begun >= 1
        await until(lambda: parts_of(app).lifecycle.phase is Phase.READY)
        gate_opener.join()


async def test_a_full_service_is_asked_again_with_the_whole_photo() -> None:
    with scripted(FULL, (504, {}, b""), (429, {}, b""), PICTURE) as (url, seen):
        with fc.Client(url, api_key="secret", retries=QUICK) as client:
            assert client.swap(b"photo", "will").data == b"picture"
        assert seen == ["/swap?target=will Bearer secret"] * 4
    with scripted(FULL, PICTURE) as (url, seen):
        async with fc.AsyncClient(url, api_key="secret", retries=QUICK) as other:
            assert (await other.swap(b"photo", "will")).data == b"picture"
        assert seen == ["/swap?target=will Bearer secret"] * 2


def test_it_ends_after_the_last_try() -> None:
    with scripted(*[FULL] * 4) as (url, seen), fc.Client(url, retries=QUICK) as client:
        with pytest.raises(fc.BusyError) as caught:
            client.swap(b"photo", "will")
        assert (caught.value.slug, caught.value.retry_after_s, len(seen)) == ("queue-full", 0.0, 4)


@pytest.mark.parametrize(
    ("status", "wanted"), [(500, fc.ServerError), (502, fc.ServerError), (413, fc.ProblemError)]
)
def test_other_refusals_are_not_asked_again(status: int, wanted: type[fc.ProblemError]) -> None:
    with scripted((status, {"Content-Type": "text/html"}, b"<h1>")) as (url, seen), fc.Client(url) as client:
        with pytest.raises(wanted, match=rf"status {status} and is no problem of faceswapd"):
            client.swap(b"photo", "will")
        assert len(seen) == 1


def test_a_lost_answer_is_not_asked_again() -> None:
    """It may have been swapped, and paid for, already."""
    cut = (200, {"Content-Type": "image/png", "Content-Length": "100"}, b"half")
    with scripted(cut) as (url, _), fc.Client(url) as client, pytest.raises(fc.BrokenAnswerError):
        client.swap(b"photo", "will")
    lines = (200, {"Content-Type": "application/x-ndjson"}, b"")
    missing = pytest.raises(fc.BrokenAnswerError, match="summary is missing")
    with scripted(lines) as (url, _), fc.Client(url) as client, missing:
        list(client.batch([b"photo"], "will"))
    other = pytest.raises(fc.BrokenAnswerError, match="a picture was expected")
    with scripted((200, {}, b"hello")) as (url, _), fc.Client(url) as client, other:
        client.swap(b"photo", "will")


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_pauses_follow_the_service_and_else_double_up_to_a_limit() -> None:
    retries = fc.Retries(times=9, first_s=0.5, longest_s=3)
    pauses = [retries.pause(made, answer(503)) for made in range(1, 6)]
    for pause, longest in zip(pauses, (0.5, 1, 2, 3, 3), strict=True):
        assert pause is not None and longest / 2 <= pause <= longest
    asked = retries.pause(1, answer(503, retry_after="2"))
    assert asked is not None and 2 <= asked <= 2.5, "never earlier than asked"
    assert retries.pause(1, answer(503, retry_after="4")) is None, "too long to wait for"
    assert retries.pause(10, answer(503)) is None
    assert retries.pause(1, httpx.ConnectError("refused")) is not None
    assert retries.pause(1, httpx.ReadTimeout("late")) is None
    assert fc.NEVER.pause(1, answer(503)) is None


def test_retry_after_may_be_a_date() -> None:
    soon = retry_after_s(answer(503, retry_after=formatdate(time.time() + 60, usegmt=True)))
    assert soon is not None and 50 < soon <= 60
    assert retry_after_s(answer(503, retry_after=formatdate(0, usegmt=True))) == 0
    assert retry_after_s(answer(503, retry_after="soon")) is None
    assert retry_after_s(answer(503)) is None
