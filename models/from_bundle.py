"""A checkpoint from a bundle: training goes on, and enrols people, where only the bundle is left.

The graphs that `export` writes carry the configuration of their network and say where each of its
tensors is. Large tensors come back as they are stored there: rounded to float16 once, which another
export does not change any more.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from faceswap.bundle import Bundle, FileEntry, IdentityEntry
from faceswap.images import read_image
from faceswap.signatures import first_line
from models.autoencoder import Encoder, EncoderConfig
from models.checkpoint import UNIVERSAL, Checkpoint
from models.decoders import Decoder, DecoderConfig
from models.errors import CheckpointError

CONFIG_KEY = "faceswapd.config"
"""metadata_props of a graph: JSON of the network's configuration."""
TENSORS_KEY = "faceswapd.tensors"
"""JSON: name in the network's state -> name in the graph."""
CONSTANTS_KEY = "faceswapd.constants"
"""JSON: name in the network's state -> shape and values of what the graph has no tensor for."""

Array = npt.NDArray[Any]


def checkpoint_of(bundle: Bundle) -> Checkpoint:
    """Encoder, universal decoder (if the bundle has one) and identities of `bundle` as torch modules.

    Previews are the decoders' own pictures, as a bundle holds no photo. Facts are those of the encoder's
    training. BundleError for damaged files, CheckpointError for a bundle that lacks what is needed.
    """
    manifest = bundle.manifest
    encoder = _encoder(bundle, manifest.encoder.graph)
    decoders = {entry.name: _decoder(bundle, entry.decoder) for entry in manifest.identities}
    if manifest.universal is not None:
        decoders[UNIVERSAL] = _decoder(bundle, manifest.universal)
    facts: dict[str, Any] = json.loads(json.dumps(manifest.encoder.training))
    facts["crops"] = {entry.name: entry.training.get("crops", 0) for entry in manifest.identities}
    return Checkpoint(
        encoder=encoder,
        decoders=decoders,
        template=[list(point) for point in manifest.crop.template],
        facts=facts,
        records={entry.name: _record(entry) for entry in manifest.identities},
        previews={entry.name: _preview(bundle, entry) for entry in manifest.identities},
    )


def _encoder(bundle: Bundle, entry: FileEntry) -> Encoder:
    config, state = _network(bundle, entry)
    try:
        encoder = Encoder(EncoderConfig(**config))
    except (TypeError, ValueError) as error:
        raise _unfit(bundle, entry, error) from error
    _load(bundle, entry, encoder, state)
    return encoder


def _decoder(bundle: Bundle, entry: FileEntry) -> Decoder:
    config, state = _network(bundle, entry)
    try:
        decoder = Decoder(DecoderConfig(**config))
    except (TypeError, ValueError) as error:
        raise _unfit(bundle, entry, error) from error
    _load(bundle, entry, decoder, state)
    return decoder


def _load(bundle: Bundle, entry: FileEntry, network: nn.Module, state: dict[str, Tensor]) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise _unfit(bundle, entry, error) from error


def _network(bundle: Bundle, entry: FileEntry) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the state of the network in a graph."""
    try:
        model = onnx.load_from_string(bundle.read(entry))
    except Exception as error:  # protobuf's DecodeError comes without types
        raise _unfit(bundle, entry, error) from error
    told = {prop.key: prop.value for prop in model.metadata_props}
    if not {CONFIG_KEY, TENSORS_KEY, CONSTANTS_KEY} <= told.keys():
        raise CheckpointError(
            f"{entry.path} of bundle {bundle.folder} does not say how its network is built, as bundles of "
            "older versions do not; start from the checkpoint that it was exported from"
        )
    try:
        reader = _Reader(model.graph)
        state = {key: torch.from_numpy(reader.read(n)) for key, n in json.loads(told[TENSORS_KEY]).items()}
        for key, constant in json.loads(told[CONSTANTS_KEY]).items():
            state[key] = torch.tensor(constant["values"]).reshape(constant["shape"])
        config = {name: _frozen(value) for name, value in json.loads(told[CONFIG_KEY]).items()}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise _unfit(bundle, entry, error) from error
    return config, state


class _Reader:
    """Tensors of a graph by name: initializers, and what Cast and Gather make of them."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes = {name: node for node in graph.node for name in node.output}

    def read(self, name: str) -> Array:
        """A copy that may be written to. KeyError or ValueError if the graph computes it from its input."""
        if name in self._stored:
            return numpy_helper.to_array(self._stored[name]).copy()
        node = self._nodes[name]
        inputs = [self.read(each) for each in node.input]
        if node.op_type == "Cast" and node.attribute[0].i in (TensorProto.FLOAT, TensorProto.INT32):
            return inputs[0].astype(np.float32 if node.attribute[0].i == TensorProto.FLOAT else np.int32)
        if node.op_type == "Gather" and not node.attribute:
            return np.take(inputs[0], inputs[1], axis=0)
        raise ValueError(f"{name} comes from {node.op_type}, which stores nothing")


def _frozen(value: Any) -> Any:
    """JSON has no tuples; a configuration has no lists."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _record(entry: IdentityEntry) -> dict[str, Any]:
    return {"licence": entry.licence, "consent": entry.consent.model_dump()}


def _preview(bundle: Bundle, entry: IdentityEntry) -> Tensor:
    """(3, 64, 64) uint8"""
    if entry.preview is None:
        raise CheckpointError(f"{entry.name} of bundle {bundle.folder} has no preview to start from")
    return torch.from_numpy(read_image(bundle.read(entry.preview)).pixels.copy()).permute(2, 0, 1)


def _unfit(bundle: Bundle, entry: FileEntry, error: Exception) -> CheckpointError:
    reason = f"{type(error).__name__} {first_line(error)}"
    return CheckpointError(f"{entry.path} of bundle {bundle.folder} does not fit this version: {reason}")
