"""A bundle's networks made anew in another precision, calibrated, opened and run as the service does it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from export.borrow import borrowing
from export.calibration import BATCH, peaks, ranges
from export.fp16 import Halves, to_fp16
from export.gate import likeness
from export.int8 import Plan, to_int8
from export.rewrite import rearranged, scaled
from export.sensitivity import sensitive
from faceswap.bundle import Bundle, FileEntry
from faceswap.faces import Pixels
from faceswap.precisions import Precision
from faceswap.sessions import CPU, CUDA, Device, Session, SessionFactory

LOOKED_AT = 32
"""Crops on which layers are told apart."""

Made = tuple[bytes, dict[str, str]]
"""The file of a variant, and the layers in float with the reason."""
Array = npt.NDArray[Any]


class Studio:
    """Draws faces with fp32 graphs and with those variants that were made so far."""

    def __init__(
        self, bundle: Bundle, precision: Precision, crops: Pixels, device: Device = Device.CPU
    ) -> None:
        """`crops` (N, 64, 64, 3) are those of the calibration."""
        self.bundle = bundle
        self.precision = precision
        self.crops = crops
        self.factory = SessionFactory(device, torch.get_num_threads())
        self._fp32: dict[str, Session] = {}
        self._made: dict[str, Session] = {}
        self.latents: Array = self._run(self._open_fp32(self._encoder), crops)

    @property
    def provider(self) -> str:
        """Where gates are measured."""
        return self._open_fp32(self._encoder).provider

    def encoder(self) -> Made:
        """The encoder's variant; what is good enough is seen in the faces of all fp32 decoders."""
        names = [entry.name for entry in self.bundle.manifest.identities]
        few = self.crops[:LOOKED_AT]
        true = {name: self.fp32(name, few) for name in names}

        def score(session: Session) -> float:
            latents = self._run(session, few)
            drawn = {name: self._run(self._open_fp32(self._decoder(name)), latents) for name in names}
            return min(likeness(drawn[name], true[name]) for name in names)

        return self._make(self._encoder, self.crops, score)

    def decoder(self, name: str) -> Made:
        """A decoder's variant, after the encoder's, with which it is to be good enough."""
        few = self.crops[:LOOKED_AT]
        true, latents = self.fp32(name, few), self._run(self._made[self._encoder.path], few)
        return self._make(
            self._decoder(name), self.latents, lambda session: likeness(self._run(session, latents), true)
        )

    def fp32(self, name: str, crops: Pixels) -> Pixels:
        """Faces (N, 64, 64, planes) of the fp32 graphs."""
        latents = self._run(self._open_fp32(self._encoder), crops)
        return self._run(self._open_fp32(self._decoder(name)), latents)

    def drawn(self, name: str, crops: Pixels) -> Pixels:
        """Faces by the variants made so far; without the decoder's, by its fp32 graph."""
        decoder = self._decoder(name)
        latents = self._run(self._made[self._encoder.path], crops)
        return self._run(self._made.get(decoder.path) or self._open_fp32(decoder), latents)

    @property
    def emulates(self) -> str | None:
        """CUDA, where float16 is measured without it; else None: every graph runs as the service runs it."""
        return CUDA if self.precision is Precision.FP16 and self.provider == CPU else None

    @property
    def _encoder(self) -> FileEntry:
        return self.bundle.manifest.encoder.graph

    def _decoder(self, name: str) -> FileEntry:
        return self.bundle.identity(name).decoder

    def _open_fp32(self, file: FileEntry) -> Session:
        if file.path not in self._fp32:
            self._fp32[file.path] = self.factory.open(self.bundle.read(file), file.path)
        return self._fp32[file.path]

    def _make(self, file: FileEntry, inputs: Array, score: Callable[[Session], float]) -> Made:
        weights = self.bundle.read(file)
        if self.precision is Precision.FP16:
            return self._make_fp16(file, inputs, weights)
        model = rearranged(onnx.load_from_string(weights))
        plan = Plan(model)
        limits = ranges(model, plan.tensors, inputs, self.factory.threads, plan.squashed)

        def build(in_float: Collection[str]) -> bytes:
            return borrowing(to_int8(model, limits, in_float), weights, PurePosixPath(file.path).name)

        opened = partial(self._open, file, weights)
        in_float = sensitive(plan.layers, lambda names: score(opened(build(names))))
        data = build(in_float)
        self._made[file.path] = opened(data)
        measured = {layer: f"SSIM {won:+.4f}" for layer, won in in_float.items()}
        return data, {**plan.unfit, **measured}

    def _make_fp16(self, file: FileEntry, inputs: Array, weights: bytes) -> Made:
        model = scaled(onnx.load_from_string(weights))
        halves = Halves(model)
        exponents = halves.exponents(peaks(model, halves.tensors, inputs, self.factory.threads))
        data = borrowing(to_fp16(model, exponents), weights, PurePosixPath(file.path).name)
        self._made[file.path] = self._open(file, weights, data)
        if self.emulates:
            emulation = to_fp16(model, exponents, emulated=True).SerializeToString()
            self._made[file.path] = self.factory.open(emulation, f"the emulation of {file.path}")
        return data, {}

    def _open(self, file: FileEntry, weights: bytes, graph: bytes) -> Session:
        name = PurePosixPath(file.path).name
        return self.factory.open(graph, f"the {self.precision} graph of {name}", None, (name, weights))

    @staticmethod
    def _run(session: Session, batch: Array) -> Array:
        parts = [session.run(batch[start : start + BATCH]) for start in range(0, len(batch), BATCH)]
        return np.concatenate(parts)
