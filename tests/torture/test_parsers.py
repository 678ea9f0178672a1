"""What reads bytes of strangers: an answer or one of its own errors, for anything at all."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from faceswap.bundle import Bundle
from faceswap.errors import BundleError, ImageTooLargeError, NotAnImageError, TruncatedImageError
from faceswap.images import read_image
from service.encodings import unpacked
from service.errors import (
    BadEncodingError,
    BadMultipartError,
    BadTensorError,
    BodyTooLargeError,
    NoImageError,
)
from service.forms import PhotoForm
from service.v2_tensors import read_request
from tests.service.fakes import photo
from tests.service.tensors import JSON_BYTES, as_bytes, as_json, crops
from tests.torture.mutations import mutants, pictures
from tests.torture.sizes import Tally, sized

Parse = Callable[[bytes], object]
PICTURE_ERRORS = (NotAnImageError, TruncatedImageError, ImageTooLargeError)


def torture(
    tally: Tally, row: str, inputs: Iterable[bytes], parse: Parse, errors: tuple[type[Exception], ...]
) -> None:
    """Any other error ends the test, and names the input."""
    read = refused = 0
    slowest = 0.0
    for data in inputs:
        started = time.perf_counter()
        try:
            parse(data)
            read += 1
        except errors as error:
            assert "\n" not in str(error)
            refused += 1
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} from {len(data)} bytes: {data[:4096]!r}") from error
        slowest = max(slowest, time.perf_counter() - started)
    tally.note(
        row, inputs=read + refused, read=read, refused=refused, slowest_ms_max=round(slowest * 1000, 1)
    )
    assert read and refused, "mutants must come both ways, else they test one way only"


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's, about metadata; the service logs none
def test_pictures(tally: Tally) -> None:
    def parse(data: bytes) -> None:
        image = read_image(data, max_pixels=1_000_000)
        assert image.pixels.dtype == np.uint8 and image.width * image.height <= 1_000_000

    torture(tally, "read_image", mutants(pictures(), sized(400, 100_000)), parse, PICTURE_ERRORS)


def form(*parts: tuple[str, str | None, bytes]) -> bytes:
    lines = []
    for name, file, data in parts:
        extra = "" if file is None else f'; filename="{file}"\r\nContent-Type: image/png'
        lines.append(
            f'--frame\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + data
        )
    return b"\r\n".join([*lines, b"--frame--\r\n"])


FORMS = [
    form(("image", "a.png", b"12345")),
    form(("note", None, b"hello"), ("image", "a.png", bytes(range(256)))),
    form(("image", None, b"text")),
    form(("image", 'a"b\\"c.png', b"\r\n--frame\r\n--fram")),
]


def parsed(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    form, start = PhotoForm("multipart/form-data; boundary=frame"), 0
    for cut in [*sorted(cuts), len(data)]:
        form.feed(data[start:cut])
        start = cut
    return form.photos()


def outcome(data: bytes, cuts: Iterable[int]) -> object:
    try:
        return parsed(data, cuts)
    except (BadMultipartError, NoImageError):
        return "refused"  # which of the two: python-multipart's parser can depend on the pieces


def test_forms(tally: Tally) -> None:
    inputs = mutants(FORMS, sized(500, 100_000), seed=1)
    torture(tally, "multipart", inputs, lambda data: parsed(data, ()), (BadMultipartError, NoImageError))


def test_forms_are_the_same_in_any_pieces(tally: Tally) -> None:
    random = np.random.default_rng(2)
    for data in mutants(FORMS, sized(150, 20_000), seed=2):
        cuts = random.integers(0, len(data) + 1, random.integers(0, 9)).tolist()
        assert outcome(data, cuts) == outcome(data, ()), (data, cuts)
        tally.note("multipart in pieces", inputs=1)


def test_content_types_of_forms(tally: Tally) -> None:
    seeds = [b"multipart/form-data; boundary=frame", b'multipart/form-data; boundary="a b"; charset=utf-8']

    def parse(data: bytes) -> object:
        return PhotoForm(data.decode("latin-1"))

    torture(tally, "multipart", mutants(seeds, sized(300, 20_000), seed=3), parse, (BadMultipartError,))


def test_manifests(tally: Tally, identity_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(identity_bundle, tmp_path / "bundle")
    path = folder / "manifest.json"
    good = json.loads(path.read_text())
    known = Bundle.open(folder)
    seeds = [json.dumps(good).encode(), json.dumps(good, separators=(",", ":")).encode()]

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        Bundle.open(folder, checked=known)

    torture(tally, "manifest", mutants(seeds, sized(300, 100_000), seed=4), parse, (BundleError,))


def test_tensors(tally: Tally) -> None:
    binary, headers = as_bytes(crops(1), outputs=[{"name": "masks", "parameters": {"binary_data": True}}])
    head = int(headers[JSON_BYTES])

    def parse_json(data: bytes) -> object:
        return read_request(data, None, 64)

    def parse_binary(data: bytes) -> object:
        return read_request(data + binary[head:], len(data), 64)

    count = sized(300, 100_000)
    heads = [binary[:head], *mutants([binary[:head]], count, seed=5)]
    torture(tally, "v2 tensors", heads, parse_binary, (BadTensorError,))
    numbers = [as_json(crops(1)), as_json(crops(1), nested=True)]
    inputs = [*numbers, *mutants(numbers, count // 10, seed=6)]
    torture(tally, "v2 tensors", inputs, parse_json, (BadTensorError,))


def test_packed_bodies(tally: Tally) -> None:
    seeds = [gzip.compress(photo()), gzip.compress(bytes(100_000)), gzip.compress(b"", mtime=0)]

    def parse(data: bytes) -> None:
        assert len(unpacked(data, "gzip", 50_000)) <= 50_000

    inputs = [*seeds, *mutants(seeds, sized(300, 100_000), seed=7)]
    torture(tally, "gzip bodies", inputs, parse, (BadEncodingError, BodyTooLargeError))
