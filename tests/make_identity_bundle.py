"""Writes tests/data/identity-bundle: `python -m tests.make_identity_bundle` (needs the onnx package).

The encoder only rearranges pixels, so the decoder of "echo" gives exactly the posted face back;
that of "negative" gives 255 minus it, and that of "cutout" gives it back with a mask: the face in the
left half, the photo in the right one. A pipeline that turns, shifts, swaps or scales anything
between photo and answer cannot pass a test with them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as PillowImage

from faceswap.alignment import DEFAULT_TEMPLATE
from faceswap.bundle import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Consent,
    CropSpec,
    EncoderEntry,
    FileEntry,
    IdentityEntry,
    LatentSpec,
    Manifest,
    Parity,
)
from faceswap.faces import CROP_SIZE

FOLDER = Path(__file__).parent / "data" / "identity-bundle"
OPSET, IR_VERSION = 18, 9
BLOCK = 4
LATENT = LatentSpec(channels=3 * BLOCK**2, height=CROP_SIZE // BLOCK, width=CROP_SIZE // BLOCK)
EXACT = Parity(samples=1, mean_error=0, max_error=0, tolerance=0)
PICTURES, LATENTS = ("N", CROP_SIZE, CROP_SIZE, 3), ("N", *LATENT.shape)


def encoder() -> bytes:
    """uint8 (N, 64, 64, 3) -> float32 (N, 48, 16, 16), each value a grey level as a share of 255."""
    nodes = [
        helper.make_node("Cast", ["faces"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("SpaceToDepth", ["planes"], ["blocks"], blocksize=BLOCK),
        helper.make_node("Div", ["blocks", "white"], ["latents"]),
    ]
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, PICTURES)
    latents = helper.make_tensor_value_info("latents", TensorProto.FLOAT, LATENTS)
    return _model("encoder", nodes, faces, latents, {"white": 255.0})


def decoder(scale: float, offset: float) -> bytes:
    """float32 (N, 48, 16, 16) -> uint8 (N, 64, 64, 3): `scale` times the latent plus `offset`."""
    nodes = [
        *_levels("levels"),
        helper.make_node("Round", ["levels"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "black", "white"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["faces"], to=TensorProto.UINT8),
    ]
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, PICTURES)
    constants = {"scale": scale, "offset": offset, "black": 0.0, "white": 255.0}
    return _model("decoder", nodes, _latents(), faces, constants)


def cutout() -> bytes:
    """float32 (N, 48, 16, 16) -> uint8 (N, 64, 64, 4): the echo, and a mask that is its left half."""
    nodes = [
        *_levels("levels"),
        helper.make_node("Gather", ["levels", "red"], ["reds"], axis=3),
        helper.make_node("Mul", ["reds", "black"], ["nothing"]),  # as many as there are faces
        helper.make_node("Add", ["nothing", "left_half"], ["mask"]),
        helper.make_node("Concat", ["levels", "mask"], ["planes4"], axis=3),
        helper.make_node("Round", ["planes4"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["faces"], to=TensorProto.UINT8),
    ]
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, (*PICTURES[:3], 4))
    left_half = np.zeros((1, 1, CROP_SIZE, 1), np.float32)
    left_half[:, :, : CROP_SIZE // 2] = 255
    arrays: dict[str, npt.NDArray[np.generic]] = {"left_half": left_half, "red": np.array([0], np.int64)}
    constants = {"scale": 255.0, "offset": 0.0, "black": 0.0}
    return _model("cutout", nodes, _latents(), faces, constants, arrays)


def _levels(output: str) -> list[onnx.NodeProto]:
    """Nodes from `latents` to grey levels (N, 64, 64, 3) float32 called `output`."""
    return [
        helper.make_node("DepthToSpace", ["latents"], ["planes"], blocksize=BLOCK, mode="DCR"),
        helper.make_node("Transpose", ["planes"], ["shares"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["shares", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], [output]),
    ]


def _latents() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("latents", TensorProto.FLOAT, LATENTS)


def preview() -> bytes:
    """A 64x64 PNG."""
    ramp = np.arange(CROP_SIZE, dtype=np.uint8) * 4
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(128)), axis=-1)
    stream = io.BytesIO()
    PillowImage.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write(folder: Path) -> Manifest:
    """The whole bundle into `folder`, which may exist."""
    graph = encoder()
    weights = hashlib.sha256(graph).hexdigest()
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="identity-network",
        created="2026-01-01T00:00:00Z",
        generator="tests.make_identity_bundle",
        opset=OPSET,
        crop=CropSpec(size=CROP_SIZE, template=DEFAULT_TEMPLATE),
        latent=LATENT,
        encoder=EncoderEntry(
            graph=_file(folder, "encoder-{}.onnx", graph),
            weights_sha256=weights,
            parity=EXACT,
            licence="Apache-2.0",
            training={},
        ),
        identities=[
            _identity(folder, "echo", decoder(255, 0), weights, preview()),
            _identity(folder, "negative", decoder(-255, 255), weights, None),
            _identity(folder, "cutout", cutout(), weights, None),
        ],
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _identity(folder: Path, name: str, graph: bytes, weights: str, picture: bytes | None) -> IdentityEntry:
    return IdentityEntry(
        name=name,
        decoder=_file(folder, f"decoders/{name}-{{}}.onnx", graph),
        encoder_sha256=weights,
        preview=_file(folder, f"previews/{name}-{{}}.png", picture) if picture else None,
        parity=EXACT,
        licence="Apache-2.0",
        consent=Consent(
            kind="synthetic", given_by="faceswapd", date="2026-01-01", purpose="tests: shows nobody"
        ),
        training={},
        metrics={},
    )


def _file(folder: Path, pattern: str, data: bytes) -> FileEntry:
    sha256 = hashlib.sha256(data).hexdigest()
    entry = FileEntry(path=pattern.format(sha256[:8]), sha256=sha256, bytes=len(data))
    path = folder / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return entry


def _model(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    takes: onnx.ValueInfoProto,
    gives: onnx.ValueInfoProto,
    constants: dict[str, float],
    arrays: dict[str, npt.NDArray[np.generic]] | None = None,
) -> bytes:
    values = [helper.make_tensor(key, TensorProto.FLOAT, [], [value]) for key, value in constants.items()]
    values += [numpy_helper.from_array(value, key) for key, value in (arrays or {}).items()]
    graph = helper.make_graph(nodes, name, [takes], [gives], values)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="faceswapd")
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
