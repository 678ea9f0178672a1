"""The service over the real library and tiny real graphs: what is posted comes back."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from faceswap import Swapper
from service.app import create_app
from service.settings import Settings
from tests.service.fakes import opened, photo, post, serving
from tests.service.test_problems import expect

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "data" / "identity-bundle"
EXAMPLES = ROOT / "examples"


def real_app(bundle: Path = BUNDLE) -> FastAPI:
    return create_app(Settings(bundle=bundle, workers=2), Swapper.open(bundle, "cpu", 1))


def pixels(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(opened(answer.content).convert("RGB"))


async def test_echo_gives_the_crop_back_and_negative_its_negative() -> None:
    posted = np.asarray(opened(photo()))
    async with serving(real_app()) as client:
        echo, negative = await asyncio.gather(
            post(client, crop="none"), post(client, target="negative", crop="none")
        )
    assert np.array_equal(pixels(echo), posted)
    assert np.array_equal(pixels(negative), 255 - posted)


async def test_a_photo_gives_a_face_and_the_photo_with_the_face() -> None:
    data = (EXAMPLES / "a.jpg").read_bytes()
    async with serving(real_app()) as client:
        face = await post(client, data)
        whole = await post(client, data, target="negative", output="photo")
    source = np.asarray(opened(data).convert("RGB"))
    assert pixels(face).shape == (64, 64, 3)
    assert pixels(whole).shape == source.shape
    changed = (pixels(whole) != source).any(axis=2)
    assert 0 < changed.mean() < 0.6, "only the face changes"


async def test_a_mask_cuts_the_pasted_face_and_never_shows_in_the_answer() -> None:
    data, crop = (EXAMPLES / "a.jpg").read_bytes(), photo()
    async with serving(real_app()) as client:
        ready = await post(client, crop, target="cutout", crop="none")
        face = await post(client, data, target="cutout")
        half = await post(client, crop, target="cutout", crop="none", output="photo")
        whole = await post(client, data, target="cutout", output="photo")
    assert opened(ready.content).mode == opened(face.content).mode == opened(whole.content).mode == "RGB"
    assert np.array_equal(pixels(ready), np.asarray(opened(crop)))
    assert pixels(face).shape == (64, 64, 3)
    assert np.array_equal(pixels(half)[:, 32:], np.asarray(opened(crop))[:, 32:])
    source = np.asarray(opened(data).convert("RGB"))
    assert 0 < (pixels(whole) != source).any(axis=2).mean() < 0.3


async def test_two_faces_are_told_apart_and_a_third_is_not_there() -> None:
    data = (EXAMPLES / "two.jpg").read_bytes()
    async with serving(real_app()) as client:
        first, second = await post(client, data), await post(client, data, face=1)
        expect(await post(client, data, face=2), "no-such-face")
        expect(await post(client, (EXAMPLES / "no-face.jpg").read_bytes()), "no-face", "crop=none")
    assert first.headers["x-face-box"] != second.headers["x-face-box"]
    assert not np.array_equal(pixels(first), pixels(second))


async def test_many_at_once_get_their_own_face() -> None:
    crops = [photo(grey=grey) for grey in range(20, 220, 10)]
    async with serving(real_app()) as client:
        targets = ["echo", "negative"] * 10
        asked = zip(crops, targets, strict=True)
        answers = await asyncio.gather(*[post(client, c, target=t, crop="none") for c, t in asked])
    for grey, target, answer in zip(range(20, 220, 10), targets, answers, strict=True):
        assert set(pixels(answer).ravel()) == {grey if target == "echo" else 255 - grey}


async def test_a_decoder_that_was_exchanged_after_the_start_is_not_run(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    app = real_app(bundle)
    for file in (bundle / "decoders").glob("negative*"):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    async with serving(app) as client:
        expect(await post(client, target="negative", crop="none"), "bundle-unusable")
        assert (await post(client, crop="none")).status_code == 200
        assert (await client.get("/health/live")).status_code == 200


async def test_identities_are_told_as_the_manifest_has_them() -> None:
    async with serving(real_app()) as client:
        names = [entry["name"] for entry in (await client.get("/identities")).json()["identities"]]
        facts = [(await client.get(f"/identities/{name}")).json() for name in names]
    assert {"echo", "negative"} <= set(names)
    assert all(len(fact["decoder_sha256"]) == 64 for fact in facts)


def test_cuda_that_is_not_there_is_one_line() -> None:
    if "CUDA" in Swapper.open(BUNDLE).provider:
        pytest.skip("this machine has CUDA")
    command = [sys.executable, "-m", "service", "--port", "0", "--bundle", str(BUNDLE), "--device", "cuda"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert child.returncode == 2
    assert child.stderr.startswith("faceswapd: ") and child.stderr.count("\n") == 1, child.stderr
