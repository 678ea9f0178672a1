"""The proof of equality: measured, written down, and refused above the tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import numpy_helper

from export.graphs import DecoderGraph, EncoderGraph
from export.parity import (
    FACE_TOLERANCE,
    LATENT_TOLERANCE,
    ParityError,
    face_parity,
    latent_parity,
    seeded_pictures,
)
from faceswap.bundle import Bundle
from faceswap.sessions import Device, Session, SessionFactory
from models.checkpoint import Checkpoint

Array = npt.NDArray[Any]


class FakeSession:
    """Answers with `answer(batch)`."""

    provider = "fake"

    def __init__(self, answer: Callable[[Array], Array]) -> None:
        self.answer = answer

    def run(self, batch: Array) -> Array:
        return self.answer(batch)


def opened(graph: bytes) -> Session:
    return SessionFactory(Device.CPU, 1).open(graph, "graph")


def tampered(graph: bytes, change: float) -> bytes:
    """The same graph with `change` added to the bias of the last layer."""
    model = onnx.load_from_string(graph)
    (last,) = (tensor for tensor in model.graph.initializer if tensor.name == "network.to_rgb.bias")
    last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last) + np.float32(change), last.name))
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture(scope="module")
def will(checkpoint: Checkpoint) -> DecoderGraph:
    return DecoderGraph(checkpoint.decoders["will"])


@pytest.fixture(scope="module")
def latents(checkpoint: Checkpoint) -> torch.Tensor:
    with torch.no_grad():
        latents: torch.Tensor = EncoderGraph(checkpoint.encoder)(torch.from_numpy(seeded_pictures(4, seed=9)))
    return latents


def test_the_manifest_tells_what_was_measured(exported: Bundle) -> None:
    manifest = exported.manifest
    for parity, tolerance in [
        (manifest.encoder.parity, LATENT_TOLERANCE),
        *((entry.parity, FACE_TOLERANCE) for entry in manifest.identities),
    ]:
        assert parity.samples == 16
        assert parity.tolerance == tolerance
        assert 0 <= parity.mean_error <= parity.max_error <= tolerance
    assert manifest.encoder.parity.max_error > 0, "float16 storage costs something"


def test_what_was_measured_holds_for_other_inputs(
    exported: Bundle, checkpoint: Checkpoint, will: DecoderGraph, latents: torch.Tensor
) -> None:
    manifest = exported.manifest
    encoder = opened(exported.read(manifest.encoder.graph))
    measured = latent_parity(EncoderGraph(checkpoint.encoder), encoder, seeded_pictures(4, seed=8))
    assert measured.max_error < 3 * manifest.encoder.parity.max_error
    decoder = opened(exported.read(exported.identity("will").decoder))
    assert face_parity("will", will, decoder, latents).mean_error < 0.5


def test_a_tampered_decoder_is_refused(exported: Bundle, will: DecoderGraph, latents: torch.Tensor) -> None:
    graph = exported.read(exported.identity("will").decoder)
    face_parity("will", will, opened(tampered(graph, 0.0)), latents)
    with pytest.raises(ParityError, match=r"decoder will: .* more than the tolerance of 3"):
        face_parity("will", will, opened(tampered(graph, 0.5)), latents)


def test_the_decoder_of_another_is_refused(
    exported: Bundle, will: DecoderGraph, latents: torch.Tensor
) -> None:
    amara = opened(exported.read(exported.identity("amara").decoder))
    with pytest.raises(ParityError):
        face_parity("will", will, amara, latents)


@pytest.mark.parametrize("levels", [0, 3, 4])
def test_the_tolerance_of_a_face_is_three_grey_levels(
    will: DecoderGraph, latents: torch.Tensor, levels: int
) -> None:
    def answer(batch: Array) -> Array:
        face = will(torch.from_numpy(batch)).detach().numpy()
        moved: Array = np.where(face > 128, face - levels, face + levels).astype(np.uint8)
        return moved

    if levels <= FACE_TOLERANCE:
        parity = face_parity("will", will, FakeSession(answer), latents)
        assert (parity.max_error, parity.mean_error) == (levels, levels)
    else:
        with pytest.raises(ParityError):
            face_parity("will", will, FakeSession(answer), latents)


def test_one_wrong_picture_among_many_is_enough(will: DecoderGraph, latents: torch.Tensor) -> None:
    def answer(batch: Array) -> Array:
        face: Array = will(torch.from_numpy(batch)).detach().numpy().copy()
        face[-1] = 255 - face[-1]
        return face

    with pytest.raises(ParityError):
        face_parity("will", will, FakeSession(answer), latents)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_latents_that_are_no_numbers_are_refused(checkpoint: Checkpoint, value: float) -> None:
    module = EncoderGraph(checkpoint.encoder)
    broken = FakeSession(lambda batch: np.full((len(batch), 131, 4, 4), value, np.float32))
    with pytest.raises(ParityError, match=r"encoder: "):
        latent_parity(module, broken, seeded_pictures(2))
