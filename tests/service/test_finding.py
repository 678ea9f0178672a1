"""POST /faces: the faces of a photo by the numbers that a swap takes."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from faceswap import Swapper
from faceswap.alignment import DEFAULT_TEMPLATE
from faceswap.errors import NoSuchFaceError
from faceswap.faces import Box, Face, Image, Landmarks
from service.app import create_app
from service.errors import DeadlineError
from service.finding import MOST_FACES
from service.settings import Settings
from tests.service.fakes import FakeSwapper, Gate, make_app, opened, parts_of, photo, post, serving
from tests.service.test_problems import expect

pytestmark = pytest.mark.anyio


async def find(client: httpx.AsyncClient, data: bytes) -> httpx.Response:
    return await client.post("/faces", files={"image": ("photo.jpg", data, "image/jpeg")})


def crop_of(face: dict[str, Any]) -> bytes:
    return base64.b64decode(face["crop"])


class Crowd(FakeSwapper):
    """A photo with `noses` at these x of 100: faces of one size beside each other, found in this order."""

    def __init__(self, *noses: float) -> None:
        super().__init__()
        self.noses = noses
        self.asked: list[int] = []

    def find_face(self, image: Image, index: int = 0) -> Face:
        assert image.width > 0
        self.asked.append(index)
        if index >= len(self.noses):
            raise NoSuchFaceError(f"face {index} was asked for")
        x = self.noses[index]
        points = np.array([[x - 5, 20], [x + 5, 20], [x, 25], [x - 4, 30], [x + 4, 30]], dtype=float)
        return Face(Box(x - 10, 10, x + 10, 40), Landmarks(points), 0.9)


async def test_real_faces_have_boxes_landmarks_and_crops(identity_bundle: Path, examples: Path) -> None:
    app = create_app(Settings(bundle=identity_bundle, workers=1), Swapper.open(identity_bundle, "cpu", 1))
    data = (examples / "two.jpg").read_bytes()
    async with serving(app) as client:
        answer = await find(client, data)
        first, second = answer.json()["faces"]
        echoes = [await post(client, data, face=face["face"]) for face in (first, second)]
        again = await post(client, crop_of(second), crop="none")
    assert [first["face"], second["face"]] == [0, 1]
    assert first["box"][2] < second["box"][0], "the larger face is on the left of two.jpg"
    for face, echo in zip((first, second), echoes, strict=True):
        told = ",".join(f"{share:.4f}" for share in face["box"])
        assert told == echo.headers["x-face-box"], "the very face that the swap takes"
        left, top, right, bottom = face["box"]
        assert all(left < x < right and top < y < bottom for x, y in face["landmarks"])
        assert np.array_equal(np.asarray(opened(crop_of(face))), np.asarray(opened(echo.content)))
    assert again.content == echoes[1].content
    assert "read;dur=" in answer.headers["server-timing"]
    assert set(answer.json()["milliseconds"]) == {"queue", "read", "detect"}


async def test_landmarks_lie_on_the_template_of_the_crop(identity_bundle: Path, examples: Path) -> None:
    """Left and right are as seen in the picture, and the order is the template's."""
    app = create_app(Settings(bundle=identity_bundle, workers=1), Swapper.open(identity_bundle, "cpu", 1))
    async with serving(app) as client:
        crop = crop_of((await find(client, (examples / "a.jpg").read_bytes())).json()["faces"][0])
        face = (await find(client, crop)).json()["faces"][0]
    assert np.abs(np.array(face["landmarks"]) - np.array(DEFAULT_TEMPLATE)).max() < 0.1


async def test_a_crop_is_not_marked_as_synthetic() -> None:
    async with serving(make_app()) as client:
        answer = await find(client, photo((90, 80)))
        swapped = await post(client, photo((90, 80)))
    crop = crop_of(answer.json()["faces"][0])
    assert opened(crop).size == (64, 64)
    assert b"digitalsourcetype" not in crop and b"digitalsourcetype" in swapped.content
    assert answer.headers["cache-control"] == "no-store"


async def test_a_face_that_comes_under_two_numbers_is_told_once() -> None:
    async with serving(make_app(Crowd(20, 50, 21, 80))) as client:
        faces = (await find(client, photo((100, 60)))).json()["faces"]
    assert [face["face"] for face in faces] == [0, 1, 3]
    assert faces[2]["box"] == pytest.approx([0.7, 1 / 6, 0.9, 2 / 3])
    assert faces[2]["landmarks"][2] == pytest.approx([0.8, 25 / 60])


async def test_a_crowd_is_not_searched_for_ever() -> None:
    swapper = Crowd(*range(0, 4000, 20))
    async with serving(make_app(swapper)) as client:
        assert len((await find(client, photo((100, 60)))).json()["faces"]) == MOST_FACES
    assert swapper.asked == list(range(MOST_FACES))


async def test_no_face_is_an_answer_and_no_problem() -> None:
    async with serving(make_app()) as client:
        answer = await find(client, photo(grey=0))
    assert (answer.status_code, answer.json()["faces"]) == (200, [])


async def test_what_is_wrong_is_a_problem_as_in_a_swap() -> None:
    app = make_app(max_body_bytes=5000)
    async with serving(app) as client:
        expect(await find(client, b"no picture"), "not-an-image")
        expect(await find(client, b"x" * 6000), "body-too-large")
        with parts_of(app).admission.place(0, parts_of(app).settings.queue_images):
            expect(await find(client, photo()), "queue-full")
        parts_of(app).lifecycle.drain()
        expect(await find(client, photo()), "draining")


async def test_a_search_has_a_deadline() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_find = gate
    app = make_app(swapper, deadline_ms=20)
    async with serving(app) as client:
        expect(await find(client, photo()), "deadline", str(DeadlineError()))
        gate.open()
        assert parts_of(app).admission.taken == 0
