"""The whole way, by the commands that a user types: train, export, serve, POST. Torch has the last word."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from benchmarks.server import HOST, Server, is_ready, serving
from export.exporter import Request, export
from export.graphs import DecoderGraph, EncoderGraph
from faceswap import read_image
from faceswap.alignment import align
from faceswap.bundle import Bundle
from faceswap.detection import LibFaceDetection
from faceswap.faces import Pixels
from models.checkpoint import Checkpoint
from models.dataset import centre, load_crops

ROOT = Path(__file__).parents[2]
CROPS, STEPS, BATCH = 32, 20, 2


@dataclass(frozen=True, slots=True)
class Made:
    """What the commands left: the run's folder, the bundle, and the crops it was trained on."""

    run: Path
    bundle: Path
    crops: list[Path]


def command(*arguments: str | Path) -> str:
    """What `python -m ...` prints; its own errors if it fails."""
    line = [sys.executable, "-m", *map(str, arguments)]
    child = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr
    return child.stdout + child.stderr


@pytest.fixture(scope="module")
def made(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("whole-way")
    will = root / "people" / "will"
    will.mkdir(parents=True)
    crops = sorted((examples / "people" / "will").glob("*.jpg"))[::14][:CROPS]
    for file in (*crops, examples / "people" / "will" / "identity.json"):
        shutil.copy(file, will)
    budget = ("--updates", str(STEPS * BATCH), "--batch", str(BATCH), "--seed", "3")
    command("models.train", "--people", will.parent, "--out", root / "run", *budget)
    said = command("export", root / "run", "--out", root / "bundle")
    words = [line.split()[0] for line in said.splitlines()]
    assert words == ["bundle", "encoder", "universal", "will", "will:"], said
    assert "export.quantize" in said.splitlines()[-1], "how to have int8 graphs"
    return Made(root / "run", root / "bundle", crops)


@pytest.fixture(scope="module")
def server(made: Made) -> Iterator[Server]:
    with serving(made.bundle, "cpu") as server:
        yield server


def post(server: Server, data: bytes, media_type: str, query: str) -> PillowImage.Image:
    request = urllib.request.Request(
        f"http://{HOST}:{server.port}/swap?target=will{query}", data, {"Content-Type": media_type}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["Content-Type"] == "image/png"
        return PillowImage.open(io.BytesIO(answer.read()))


def get(server: Server, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{HOST}:{server.port}{path}", timeout=60) as answer:
        told: dict[str, Any] = json.loads(answer.read())
    return told


def by_torch(made: Made, crop: Pixels) -> Pixels:
    """The checkpoint's own answer to a crop (64, 64, 3), without its mask."""
    checkpoint = Checkpoint.load(made.run)
    with torch.no_grad():
        latent = EncoderGraph(checkpoint.encoder)(torch.from_numpy(crop.copy())[None])
        face: Pixels = DecoderGraph(checkpoint.decoders["will"])(latent)[0, ..., :3].numpy()
    return face


def assert_equal_within_tolerance(made: Made, answer: PillowImage.Image, expected: Pixels) -> None:
    parity = Bundle.open(made.bundle).identity("will").parity
    assert (answer.mode, answer.size) == ("RGB", (64, 64))
    error = np.abs(np.asarray(answer).astype(int) - expected)
    assert error.max() <= parity.tolerance
    assert error.mean() <= 0.5, "the tolerance is for the worst pixel"


def test_a_ready_crop_is_answered_as_torch_would(made: Made, server: Server) -> None:
    crop = centre(load_crops(made.crops[5:6]))[0].permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(crop)).save(stream, "PNG")
    answer = post(server, stream.getvalue(), "image/png", "&crop=none")
    assert_equal_within_tolerance(made, answer, by_torch(made, crop))


def test_a_photo_is_answered_as_torch_would(made: Made, server: Server, examples: Path) -> None:
    """The crop is made here once more, from the photo, by the library that training uses too."""
    data = (examples / "a.jpg").read_bytes()
    image, detector = read_image(data), LibFaceDetection()
    face = detector.refine(image, detector.detect(image)[0])
    answer = post(server, data, "image/jpeg", "")
    assert_equal_within_tolerance(made, answer, by_torch(made, align(image, face.landmarks).pixels))


def test_two_photos_are_two_faces(server: Server, examples: Path) -> None:
    """Twenty steps are not enough for a likeness, but enough that the photo matters."""
    a, b = (post(server, (examples / name).read_bytes(), "image/jpeg", "") for name in ("a.jpg", "b.jpg"))
    assert a.tobytes() != b.tobytes()


def test_the_service_tells_how_the_identity_was_trained(made: Made, server: Server) -> None:
    assert [entry["name"] for entry in get(server, "/identities")["identities"]] == ["will"]
    told = get(server, "/identities/will")
    assert told["training"] == {"crops": CROPS, "updates": STEPS * BATCH}
    assert (told["licence"], told["consent"]["kind"]) == ("CC0-1.0", "synthetic")
    assert told["parity"]["max_error"] <= told["parity"]["tolerance"]
    facts = Checkpoint.load(made.run).facts
    assert (facts["step"], facts["updates"]) == (STEPS, STEPS * BATCH)
    encoder = Bundle.open(made.bundle).manifest.encoder
    assert (encoder.training["step"], told["encoder_sha256"]) == (STEPS, encoder.weights_sha256)


def test_the_preview_is_a_picture(server: Server) -> None:
    url = f"http://{HOST}:{server.port}{get(server, '/identities/will')['preview']}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert PillowImage.open(io.BytesIO(answer.read())).size == (64, 64)


def test_exporting_again_in_another_process_gives_the_same_files(made: Made, tmp_path: Path) -> None:
    """So metrics of one export fit the next one, and a bundle can be checked by making it again."""
    again = export(Checkpoint.load(made.run), tmp_path / "again", Request("again"))
    first = Bundle.open(made.bundle)
    assert again.identity("will").decoder == first.identity("will").decoder
    assert again.manifest.encoder.graph == first.manifest.encoder.graph


def test_sigterm_ends_the_service_with_0(made: Made) -> None:
    """`serving` sends it at the end of the block, and raises for any other exit status."""
    with serving(made.bundle, "cpu") as server:
        assert get(server, "/health/ready")["status"] == "ready"
    assert not is_ready(server.port)
