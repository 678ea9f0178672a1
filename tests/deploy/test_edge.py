"""deploy/nginx.conf fits the service's settings and errors; where nginx is installed it is driven."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks.server import HOST, free_port, serving
from service.errors import TABLE
from service.settings import Settings
from tests.deploy.conftest import ROOT
from tests.service.fakes import photo

CONFIG = (ROOT / "deploy" / "nginx.conf").read_text()
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

Answer = tuple[int, dict[str, str], bytes]


def directive(name: str) -> list[str]:
    """The values of every line `name value;`."""
    return re.findall(rf"^\s*{name} ([^;]+);", CONFIG, re.MULTILINE)


def test_the_limits_leave_room_for_the_services_own() -> None:
    """The service's answers say more than the edge's, so its limits are met first."""
    settings = Settings()
    body, batch = directive("client_max_body_size")
    # FACESWAPD_BATCH_BYTES, where the service has it.
    assert int(batch.removesuffix("m")) * 1_000_000 > getattr(settings, "batch_bytes", 0)
    assert int(body.removesuffix("m")) * 1_000_000 > settings.max_body_bytes
    assert int(directive("proxy_read_timeout")[0].removesuffix("s")) > settings.deadline_ms / 1000
    assert f"server faceswapd:{settings.port} " in CONFIG


def test_what_the_edge_says_by_itself_are_the_services_problems() -> None:
    ours = {(kind.status, f"/problems/{kind.slug}"): kind.title for kind in TABLE.values()}
    types = dict(re.findall(r"^\s+(\d{3}) (/problems/[\w-]+);", CONFIG, re.MULTILINE))
    titles = dict(re.findall(r'^\s+(\d{3}) "([^"]+)";', CONFIG, re.MULTILINE))
    assert types
    for status, type_ in types.items():
        assert ours[int(status), type_] == titles[status]


@contextmanager
def edge(folder: Path, upstream: int) -> Iterator[int]:
    """nginx with the shipped configuration before a service on `upstream`; gives its port."""
    port = free_port()
    text = CONFIG.replace("faceswapd:8000", f"{HOST}:{upstream}").replace(
        "listen 8080", f"listen {HOST}:{port}"
    )
    file = folder / "nginx.conf"
    file.write_text(text.replace("/tmp/", f"{folder}/"))
    # As root, nginx would give its work to a user who cannot read pytest's folder.
    command = [str(NGINX), "-e", "stderr", "-c", str(file), "-g"]
    options = "user root; " if os.geteuid() == 0 else ""
    subprocess.run([*command[:-1], "-t", "-g", options], check=True, capture_output=True)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"{options}daemon off;"], stdout=log, stderr=log)
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait(20)


def _wait_for(port: int) -> None:
    for _ in range(1000):
        with suppress(OSError), socket.create_connection((HOST, port)):
            return
        time.sleep(0.01)
    raise AssertionError(f"nothing listens on port {port}")


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def service(identity_bundle: Path) -> Iterator[int]:
    with serving(identity_bundle, "cpu") as server:
        yield server.port


@pytest.fixture
def port(service: int, tmp_path: Path) -> Iterator[int]:
    with edge(tmp_path, service) as port:
        yield port


@needs_nginx
def test_a_swap_passes_with_its_request_id(port: int, tmp_path: Path) -> None:
    path = "/swap?target=echo&crop=none"
    status, headers, body = ask(port, "POST", path, photo(), Content_Type="image/png", X_Request_ID="mine-1")
    assert (status, headers["x-request-id"], body[:4]) == (200, "mine-1", b"\x89PNG")
    odd = ask(port, "GET", "/identities", X_Request_ID="not one{}")[1]["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", odd)
    log = (tmp_path / "log").read_text()
    assert "POST /swap" in log and "id=mine-1" in log and "target=echo" not in log


@needs_nginx
def test_what_is_too_large_is_refused_as_a_problem(port: int) -> None:
    status, headers, body = ask(
        port, "POST", "/swap?target=echo", bytes(22_100_000), Content_Type="image/png"
    )
    problem = json.loads(body)
    assert (status, problem["status"], problem["type"]) == (413, 413, "/problems/body-too-large")
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == problem["request_id"]
    assert ask(port, "GET", "/identities", Cookie="x" * 10_000)[0] == 431


@needs_nginx
def test_the_services_own_refusal_passes_untouched(port: int) -> None:
    status, _, body = ask(port, "POST", "/swap?target=nobody", photo(), Content_Type="image/png")
    assert (status, json.loads(body)["known"]) == (404, ["cutout", "echo", "negative"])


@needs_nginx
@pytest.mark.parametrize("path", ["/admin/reload", "/admin", "/metrics", "/x/../metrics", "//metrics"])
def test_what_is_not_for_the_world_is_not_there(tmp_path: Path, path: str) -> None:
    """No service behind it, so what the edge lets through is a 502."""
    with edge(tmp_path, free_port()) as port:
        status, headers, _ = ask(port, "GET", path)
    assert (status, headers["content-type"]) == (404, "application/problem+json")


@needs_nginx
def test_a_slow_body_holds_no_place_in_the_service(port: int, service: int) -> None:
    head = b"POST /swap?target=echo HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    with socket.create_connection((HOST, port)) as slow:
        slow.sendall(head + b"Content-Length: 999\r\n\r\na few bytes")
        time.sleep(0.3)
        assert json.loads(ask(service, "GET", "/health")[2])["photos"] == 0


@needs_nginx
def test_one_address_gets_so_many_swaps_and_health_goes_on(port: int) -> None:
    answers = [ask(port, "GET", "/swap") for _ in range(150)]
    assert {status for status, _, _ in answers} == {405, 429}
    refused = next(headers for status, headers, _ in answers if status == 429)
    assert (refused["retry-after"], refused["content-type"]) == ("1", "application/problem+json")
    assert ask(port, "GET", "/health/ready")[0] == 200


@needs_nginx
def test_a_service_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with edge(tmp_path, free_port()) as port:
        status, headers, body = ask(port, "GET", "/identities")
    assert (status, json.loads(body)["status"], headers["retry-after"]) == (502, 502, "1")


@needs_nginx
def test_a_websocket_goes_through_both_ways(tmp_path: Path) -> None:
    """Before an upstream that says 101 and gives back what comes."""
    heard: list[bytes] = []

    def echo(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            heard.append(client.recv(65536))
            client.sendall(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            client.sendall(client.recv(65536))

    with socket.create_server((HOST, 0)) as listener, edge(tmp_path, listener.getsockname()[1]) as port:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        with socket.create_connection((HOST, port), timeout=20) as client:
            client.sendall(
                b"GET /stream HTTP/1.1\r\nHost: x:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            )
            assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
            client.sendall(b"a frame")
            assert client.recv(65536) == b"a frame"
    assert b"\r\nUpgrade: websocket\r\n" in heard[0]
    assert b"\r\nConnection: upgrade\r\n" in heard[0]
    assert b"\r\nHost: x:8080\r\n" in heard[0], "what the service compares with Origin"
