"""What is measured: a bundle on a device, in one precision of its graphs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from faceswap.bundle import Bundle
from faceswap.precisions import Precision
from faceswap.sessions import Device
from faceswap.swapper import Swapper


@dataclass(frozen=True, slots=True)
class Subject:
    """`precision` as FACESWAPD_PRECISION takes it; None leaves the choice to the library."""

    bundle: Path
    device: Device = Device.AUTO
    precision: str | None = None

    def open(self, lone_threads: int | None = None) -> Swapper:
        """A swapper with one thread a run, as the service and the peers have it. SwapError in one line."""
        precision = self.precision or Precision.AUTO
        return Swapper.open(self.bundle, self.device, 1, precision, lone_threads=lone_threads)

    def variables(self) -> dict[str, str]:
        """The same for another process: the settings of the service, which the peers read too."""
        given = {"BUNDLE": str(self.bundle), "DEVICE": self.device.value, "PRECISION": self.precision}
        return {f"FACESWAPD_{name}": value for name, value in given.items() if value is not None}

    def identity(self) -> str:
        """The first of the bundle; every measurement asks for it."""
        return Bundle.open(self.bundle).manifest.identities[0].name
