"""Signed photos, read back with the library that verifies them; and the keys that are refused."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from faceswap.images import DigitalSource, ImageFormat
from service.errors import SigningError
from service.provenance import PhotoSigner
from service.settings import Settings
from tests.service.fakes import make_app, opened, photo, post, serving

c2pa = pytest.importorskip("c2pa", reason="c2pa-python is in the c2pa extra")
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402

from tests.service import certificates  # noqa: E402
from tests.service.certificates import Credentials  # noqa: E402

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "data" / "identity-bundle"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return certificates.make(tmp_path_factory.mktemp("c2pa"))


def verified(data: bytes, media_type: str, issuer: Path) -> tuple[str, dict[str, Any]]:
    """What a reader that trusts `issuer` says of the file, and its active manifest."""
    settings = {"trust": {"trust_anchors": issuer.read_text()}, "verify": {"verify_trust": True}}
    context = c2pa.Context.from_dict(settings)
    with c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader:
        return str(reader.get_validation_state()), reader.get_active_manifest()


def signer_of(files: Credentials) -> PhotoSigner:
    signer = PhotoSigner.of(Settings(c2pa_certificate=files.certificate, c2pa_key=files.key), "1")
    assert signer is not None
    return signer


def is_signed(data: bytes) -> bool:
    return b"c2pa.actions" in data


@pytest.mark.parametrize("format", list(ImageFormat))
async def test_a_photo_is_signed_and_says_how_it_was_made(
    credentials: Credentials, format: ImageFormat
) -> None:
    async with serving(make_app(**credentials.settings())) as client:
        answer = await post(client, photo((200, 120)), output="photo", format=format.value)
    assert answer.status_code == 200 and "sign;dur=" in answer.headers["server-timing"]
    state, manifest = verified(answer.content, format.media_type, credentials.issuer)
    assert state == "Trusted"
    (assertion,) = [each for each in manifest["assertions"] if each["label"].startswith("c2pa.actions")]
    (action,) = assertion["data"]["actions"]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", COMPOSITE)
    assert action["softwareAgent"]["name"] == manifest["claim_generator_info"][0]["name"] == "faceswapd"
    assert "thumbnail" not in manifest, "one more picture of the person"
    assert COMPOSITE.encode() in answer.content, "the XMP mark is still there"
    assert opened(answer.content).size == (200, 120)


async def test_a_changed_pixel_breaks_the_seal(credentials: Credentials) -> None:
    async with serving(make_app(**credentials.settings())) as client:
        data = bytearray((await post(client, output="photo", format="jpeg")).content)
    data[-40] ^= 1
    assert verified(bytes(data), "image/jpeg", credentials.issuer)[0] == "Invalid"


async def test_faces_are_not_signed_and_nothing_is_without_a_certificate(credentials: Credentials) -> None:
    async with serving(make_app(**credentials.settings())) as client:
        assert not is_signed((await post(client)).content)
    async with serving(make_app()) as client:
        assert not is_signed((await post(client, output="photo")).content)


async def test_every_photo_of_a_batch_is_signed_also_at_once(credentials: Credentials) -> None:
    files = [("image", (str(grey), photo(grey=grey), "image/png")) for grey in range(40, 140, 10)]
    query = {"target": "echo,negative", "output": "photo", "crop": "none"}
    app = make_app(**credentials.settings(), image_threads=4, photos_in_memory=4)
    async with serving(app) as client:
        answers = await asyncio.gather(*[_zip(client, files, query) for _ in range(2)])
    for answer in answers:
        with zipfile.ZipFile(io.BytesIO(answer)) as file:
            pictures = [file.read(name) for name in file.namelist() if name.endswith(".png")]
        assert len(pictures) == 20
        for data in pictures[::7]:
            assert verified(data, "image/png", credentials.issuer)[0] == "Trusted"


async def _zip(client: httpx.AsyncClient, files: list[Any], query: dict[str, str]) -> bytes:
    answer = await client.post(
        "/swap/batch", files=files, params=query, headers={"Accept": "application/zip"}
    )
    assert answer.status_code == 200, answer.text
    return answer.content


KEYS: dict[str, Callable[[], certificates.Key]] = {
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", KEYS)
def test_other_kinds_of_keys_sign_too(kind: str, tmp_path: Path) -> None:
    files = certificates.make(tmp_path, KEYS[kind]())
    signer = signer_of(files)
    signed = signer.sign(photo(), ImageFormat.PNG, DigitalSource.COMPOSITE)
    assert verified(signed, "image/png", files.issuer)[0] == "Trusted"


def refused(**settings: Any) -> str:
    with pytest.raises(SigningError) as caught:
        PhotoSigner.of(Settings(**settings), "1")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_sign_is_refused_with_the_reason(credentials: Credentials, tmp_path: Path) -> None:
    good = credentials.settings()
    broken, other = tmp_path / "broken.pem", certificates.make(tmp_path / "other")
    broken.write_text("-----BEGIN PRIVATE KEY-----\nbm9uc2Vuc2U=\n-----END PRIVATE KEY-----\n")
    assert "belong together" in refused(c2pa_key=credentials.key)
    assert "belong together" in refused(c2pa_certificate=credentials.certificate)
    assert "C2PA_KEY cannot be read" in refused(**good | {"c2pa_key": tmp_path / "gone.pem"})
    assert "C2PA_CERTIFICATE cannot be read" in refused(**good | {"c2pa_certificate": tmp_path})
    assert "no private key" in refused(**good | {"c2pa_key": broken})
    assert refused(**good | {"c2pa_key": other.key}), "the key of another certificate"
    assert refused(**good | {"c2pa_certificate": broken})
    assert "not valid" in refused(**certificates.make(tmp_path / "ended", ended=True).settings())
    assert refused(**certificates.make(tmp_path / "purpose", purpose=False).settings())


def test_the_service_does_not_start_with_a_broken_key(credentials: Credentials, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no key")
    variables = {
        "FACESWAPD_C2PA_CERTIFICATE": str(credentials.certificate),
        "FACESWAPD_C2PA_KEY": str(broken),
    }
    command = [sys.executable, "-m", "service", "--port", "0", "--bundle", str(BUNDLE), "--device", "cpu"]
    child = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=60
    )
    assert child.returncode == 2
    assert child.stderr.startswith("faceswapd: FACESWAPD_C2PA_KEY") and child.stderr.count("\n") == 1


def test_signing_is_a_problem_of_its_own_when_it_fails_later(credentials: Credentials) -> None:
    signer = signer_of(credentials)
    with pytest.raises(SigningError, match="could not be signed"):
        signer.sign(b"no picture", ImageFormat.PNG, DigitalSource.COMPOSITE)
