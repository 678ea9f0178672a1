"""Which graph of a network runs: the cheapest that kept the quality, or the one that was asked for."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from faceswap.bundle import Bundle, FileEntry, Variant, Variants
from faceswap.errors import BundleError, DeviceError
from faceswap.sessions import CPU, CUDA, Session, SessionFactory
from faceswap.signatures import Signature


class Precision(StrEnum):
    """`auto` takes the cheapest graph that passed its gate; the others are taken or refused."""

    AUTO = "auto"
    FP32 = "fp32"
    INT8 = "int8"
    FP16 = "fp16"


CHEAPEST = {CPU: Precision.INT8, CUDA: Precision.FP16}
"""What is worth having beside fp32 on each provider; the other one is slow there."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """Opens a bundle's networks in the wanted precision; safe from any thread."""

    bundle: Bundle
    factory: SessionFactory
    wanted: Precision = Precision.AUTO

    def open(self, graph: FileEntry, variants: Variants, signature: Signature) -> Session:
        """The session of `graph` or of one of its variants. BundleError or DeviceError."""
        weights = self.bundle.read(graph)
        if self.factory.provider is None:  # only a session tells whether CUDA is really there
            session = self.factory.open(weights, graph.path, signature)
            if self.chosen(variants, graph) is None:
                return session
        variant = self.chosen(variants, graph)
        if variant is None:
            return self.factory.open(weights, graph.path, signature)
        borrowed = PurePosixPath(graph.path).name, weights
        return self.factory.open(self.bundle.read(variant.graph), variant.graph.path, signature, borrowed)

    def files(self, graph: FileEntry, variants: Variants) -> tuple[FileEntry, ...]:
        """What `open` reads: the graph, and the variant that borrows its weights."""
        variant = self.chosen(variants, graph)
        return (graph,) if variant is None else (graph, variant.graph)

    def size(self, graph: FileEntry, variants: Variants) -> int:
        """Bytes of those files, of which 8 bits of each 16-bit weight are kept where it runs in int8."""
        borrowed, *own = (file.bytes for file in self.files(graph, variants))
        eight_bits = self.precision(variants) is Precision.INT8
        return sum(own) + (borrowed // 2 if eight_bits else borrowed)

    def key(self, graph: FileEntry, variants: Variants) -> Hashable:
        """Equal for networks that `open` makes the same session of, whatever bundle they are in."""
        return self.precision(variants), *(file.sha256 for file in self.files(graph, variants))

    def precision(self, variants: Variants) -> Precision:
        """In which a network with these variants runs, or will once it is opened."""
        return self.wanted_here if self._passes(variants) else Precision.FP32

    def chosen(self, variants: Variants, graph: FileEntry) -> Variant | None:
        """None for the graph itself. BundleError if the variant that was asked for is not there."""
        precision = self.wanted_here
        if precision == self.wanted and precision is not Precision.FP32 and precision.value not in variants:
            raise BundleError(
                f"bundle {self.bundle.folder} has no {precision} graph for {graph.path}; make it with: "
                f"python -m export.quantize {self.bundle.folder}, or choose precision=auto"
            )
        return variants[precision.value] if self._passes(variants) else None

    @property
    def wanted_here(self) -> Precision:
        """What `auto` means on this provider. DeviceError for a precision that is for another one."""
        provider = self.factory.provider or CPU
        cheapest = CHEAPEST.get(provider, Precision.FP32)
        if self.wanted not in (Precision.AUTO, Precision.FP32, cheapest):
            raise DeviceError(
                f"precision {self.wanted} is not for {provider}; choose precision=auto, fp32 or {cheapest}, "
                "or another device"
            )
        return cheapest if self.wanted is Precision.AUTO else self.wanted

    def _passes(self, variants: Variants) -> bool:
        """A gate holds for the provider it was measured for, and who asks by name needs none."""
        variant = variants.get(self.wanted_here.value)
        if variant is None:
            return False
        asked = self.wanted is not Precision.AUTO
        return asked or (variant.gate.passed and variant.gate.holds_on(self.factory.provider))

    def check(self) -> None:
        """Every network of the bundle must have the precision that was asked for by name."""
        manifest = self.bundle.manifest
        self.chosen(manifest.encoder.variants, manifest.encoder.graph)
        for entry in manifest.identities:
            self.chosen(entry.variants, entry.decoder)
