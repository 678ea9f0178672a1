"""Streams and batches through real sockets, over the identity network."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from benchmarks.load import BOUNDARY, FORM
from benchmarks.server import HOST, Server, serving
from tests.service.fakes import photo

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "data" / "identity-bundle"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(BUNDLE, "cpu") as server:
        yield server


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_a_frame_gets_its_own_face_back(server: Server) -> None:
    data = (ROOT / "examples" / "a.jpg").read_bytes()
    with connect(f"ws://{HOST}:{server.port}/stream?target=echo") as socket:
        for number in range(3):
            socket.send(data)
            report = json.loads(socket.recv(timeout=30))
            assert (report["frame"], report["target"]) == (number, "echo")
            picture = socket.recv(timeout=30)
            assert isinstance(picture, bytes)
            assert np.abs(pixels(picture) - pixels(data)).mean() < 4, "the same face in the same place"
        socket.send('{"target": "negative"}')
        socket.send(data)
        socket.recv(timeout=30)
        picture = socket.recv(timeout=30)
        assert isinstance(picture, bytes)
        changed = np.abs(pixels(picture) - pixels(data)).max(axis=2) > 40
        assert 0.01 < changed.mean() < 0.6, "only the face changes"
        socket.send((ROOT / "examples" / "no-face.jpg").read_bytes())
        assert json.loads(socket.recv(timeout=30))["problem"]["type"] == "/problems/no-face"


def test_a_page_of_another_site_gets_403(server: Server) -> None:
    url = f"ws://{HOST}:{server.port}/stream?target=echo"
    with pytest.raises(InvalidStatus) as caught, connect(url, origin=Origin("https://evil.example")):
        pass
    assert caught.value.response.status_code == 403
    with connect(url, origin=Origin(f"http://{HOST}:{server.port}")):
        pass


def test_a_frame_of_too_many_bytes_closes_with_1009(server: Server) -> None:
    address = f"ws://{HOST}:{server.port}/stream?target=echo"
    with connect(address) as socket, pytest.raises(ConnectionClosed) as caught:
        socket.send(b"x" * 9_000_001)  # the limit is 2 MB, and the answer is there before all is sent
        socket.recv(timeout=30)
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1009


def test_every_pair_of_a_batch_gets_its_own_face_back(server: Server) -> None:
    greys = list(range(20, 240, 20))
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'.encode()
    body = b"".join(head + photo(grey=grey) + b"\r\n" for grey in greys) + f"--{BOUNDARY}--\r\n".encode()
    url = f"http://{HOST}:{server.port}/swap/batch?target=echo,negative,cutout&crop=none"
    headers = {"Content-Type": FORM, "Accept": "application/x-ndjson"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        *lines, last = [json.loads(line) for line in answer]
    assert last["summary"]["done"] == 3 * len(greys) == len(lines)
    for line in lines:
        grey = greys[line["image"]]
        wanted = 255 - grey if line["target"] == "negative" else grey
        assert set(pixels(base64.b64decode(line["data"])).ravel()) == {wanted}


def test_a_stop_closes_streams_with_1012() -> None:
    with serving(BUNDLE, "cpu") as server, connect(f"ws://{HOST}:{server.port}/stream?target=echo") as socket:
        socket.send((ROOT / "examples" / "a.jpg").read_bytes())
        socket.recv(timeout=30)
        socket.recv(timeout=30)
        os.kill(server.process_id, signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(timeout=30)
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1012
