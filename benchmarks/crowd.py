"""A bundle with any number of identities: one decoder graph, its weights a little different for each."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.progress import each
from faceswap.bundle import MANIFEST_NAME, Bundle, FileEntry, IdentityEntry, Manifest

GRAPH, INITIALIZER = 7, 5
"""Field numbers of onnx.proto: ModelProto.graph, GraphProto.initializer."""
DATA_TYPE, RAW_DATA = 2, 9
"""Of TensorProto."""
ITEM_BYTES = {1: 4, 10: 2}
"""By data type: float and float16."""
NOISE_BITS = 2
"""Lowest bits of each weight that are changed: at most 0.3 % of a float16."""


def name(number: int) -> str:
    """Of an identity, in the order of popularity."""
    return f"p{number:05d}"


def write(bundle: Bundle, folder: Path, count: int) -> Manifest:
    """A bundle of `count` identities in the empty `folder`, made from the first one of `bundle`.

    In fp32 alone: a variant was calibrated and judged with the weights that are changed here.
    """
    manifest = bundle.manifest
    shutil.copyfile(bundle.folder / manifest.encoder.graph.path, folder / manifest.encoder.graph.path)
    model = manifest.identities[0]
    graph = bundle.read(model.decoder)
    numbers = each(range(count), count, "identity")
    identities = [_identity(folder, model, graph, number, number) for number in numbers]
    encoder = manifest.encoder.model_copy(update={"variants": {}})
    crowd = manifest.model_copy(
        update={"name": "crowd", "encoder": encoder, "identities": identities, "universal": None}
    )
    _save(folder, crowd)
    return crowd


def replace_first(folder: Path) -> None:
    """Gives the most popular identity a decoder that was not there before, as an export would."""
    manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    first, *others = manifest.identities
    graph = (folder / first.decoder.path).read_bytes()
    fresh = _identity(folder, first, graph, 0, seed=len(manifest.identities))
    _save(folder, manifest.model_copy(update={"identities": [fresh, *others]}))


def _identity(folder: Path, model: IdentityEntry, graph: bytes, number: int, seed: int) -> IdentityEntry:
    data = varied(graph, seed)
    sha256 = hashlib.sha256(data).hexdigest()
    path = f"decoders-{name(number)}-{sha256[:8]}.onnx"
    (folder / path).write_bytes(data)
    decoder = FileEntry(path=path, sha256=sha256, bytes=len(data))
    fresh = {"name": name(number), "decoder": decoder, "preview": None, "variants": {}}
    return model.model_copy(update=fresh)


def _save(folder: Path, manifest: Manifest) -> None:
    partial = folder / "manifest.partial"
    partial.write_text(manifest.model_dump_json())
    partial.replace(folder / MANIFEST_NAME)


def varied(graph: bytes, seed: int) -> bytes:
    """The ONNX file `graph` with other weights; ValueError if it has none as raw floats."""
    data = np.frombuffer(graph, np.uint8).copy()
    rng = np.random.default_rng(seed)
    found = 0
    for start, end, item_bytes in _weights(graph):
        low = data[start:end:item_bytes]  # little-endian: the lowest byte comes first
        low ^= rng.integers(0, 2**NOISE_BITS, low.shape, np.uint8)
        found += len(low)
    if not found:
        raise ValueError("the decoder has no float weights stored as raw data")
    return data.tobytes()


def _weights(graph: bytes) -> Iterator[tuple[int, int, int]]:
    """Start, end and bytes per item of each float tensor's data."""
    for field, start, end in _fields(graph, 0, len(graph)):
        if field != GRAPH:
            continue
        for part, tensor, tensor_end in _fields(graph, start, end):
            if part == INITIALIZER:
                inside = {key: (a, b) for key, a, b in _fields(graph, tensor, tensor_end)}
                kind, _ = _varint(graph, inside[DATA_TYPE][0])
                if kind in ITEM_BYTES and RAW_DATA in inside:
                    yield *inside[RAW_DATA], ITEM_BYTES[kind]


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Field number, start and end of each value of a protobuf message."""
    while start < end:
        key, start = _varint(data, start)
        wire = key & 7
        if wire == 0:
            stop = _varint(data, start)[1]
        elif wire == 2:
            length, start = _varint(data, start)
            stop = start + length
        else:
            stop = start + {1: 8, 5: 4}[wire]
        yield key >> 3, start, stop
        start = stop


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """The number at `start` and where the next thing begins."""
    number = shift = 0
    while True:
        byte = data[start]
        number |= (byte & 127) << shift
        start, shift = start + 1, shift + 7
        if byte < 128:
            return number, start
