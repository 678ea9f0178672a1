"""What benchmarks.training times: a preset's real loop, and its forward and backward alone in memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.dataset import Person
from models.paper import PaperDecoder
from models.paper_data import Encoded
from models.paper_loop import Budget, train_epochs
from models.paper_runs import DecoderState
from models.paper_steps import Stepper
from models.trainer import Trainer, supports_bf16

Step = Callable[[], int]
"""Does some work and returns the images that it counts for."""


class Case(Protocol):
    """A preset with its networks, data and batch."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> torch.device: ...

    def loop(self) -> Step:
        """The loop as training runs it: data, step, optimiser, guard."""
        ...

    def bare(self) -> Step:
        """Forward and backward of the same networks on one batch that lies in memory."""
        ...

    def forward(self) -> Step:
        """The forward half of that."""
        ...


@dataclass(slots=True, eq=False)
class PaperCase:
    """One of the paper's decoders on cached encodings."""

    decoder: str
    batch: int
    data: Encoded

    @property
    def name(self) -> str:
        return f"paper, {self.decoder}, batch {self.batch}"

    @property
    def device(self) -> torch.device:
        return self.data.truths.device

    def loop(self) -> Step:
        stepper = self._stepper()
        stepper.capture()
        state, seed = DecoderState(stepper.decoder), 0
        epochs = train_epochs(stepper, state, seed, Budget(updates=2**40))

        def epoch() -> int:
            before = state.updates
            next(epochs)
            return state.updates - before

        return epoch

    def bare(self) -> Step:
        stepper, batch = self._stepper(), self._batch()

        def step() -> int:
            stepper.optimizer.zero_grad(set_to_none=True)
            stepper.loss(*batch).backward()  # type: ignore[no-untyped-call]
            return self.batch

        return step

    def forward(self) -> Step:
        stepper, batch = self._stepper(), self._batch()

        def step() -> int:
            with torch.no_grad():
                stepper.loss(*batch)
            return self.batch

        return step

    def _stepper(self) -> Stepper:
        return Stepper(PaperDecoder(self.decoder), self.data, self.batch)

    def _batch(self) -> tuple[Tensor, Tensor]:
        latents, truths = self.data.batch(torch.arange(self.batch, device=self.device) % len(self.data))
        return latents.contiguous(memory_format=torch.channels_last), truths


@dataclass(slots=True, eq=False)
class BestCase:
    """The `best` preset in its joint stage. Its loop also augments and encodes new variants."""

    trainer: Trainer
    name: str = "best, joint stage"

    @property
    def device(self) -> torch.device:
        return self.trainer.device

    def loop(self) -> Step:
        trainer, progress = self.trainer, self.trainer.run()
        every = trainer.config.refresh_every

        def steps() -> int:
            before = trainer.progress.updates
            for _ in range(every):  # as many as lie between two refreshes of the pools
                next(progress)
            return trainer.progress.updates - before

        return steps

    def bare(self) -> Step:
        return self._networks(backward=True)

    def forward(self) -> Step:
        return self._networks(backward=False)

    def _networks(self, backward: bool) -> Step:
        trainer = self.trainer
        next(trainer.run())  # makes the pools
        pools = trainer.progress.pools
        count = max(1, trainer.config.batch // len(pools))
        drawn = {name: pool.draw(count) for name, pool in pools.items()}
        encodings = torch.cat([encoding for encoding, _ in drawn.values()])
        meter = trainer.encoder.meter
        truths = {name: meter.remove(truth, meter(truth)) for name, (_, truth) in drawn.items()}
        low = supports_bf16(trainer.device)

        def loss() -> Tensor:
            with torch.autocast(trainer.device.type, torch.bfloat16, enabled=low):
                latents = torch.split(trainer.encoder.bottleneck(encodings), count)
                losses = []
                for (name, truth), latent in zip(truths.items(), latents, strict=True):
                    face, mask = trainer.decoders[name].relative(latent)
                    losses.append(trainer.loss(face, truth, mask))
            return torch.stack(losses).mean()

        def step() -> int:
            with torch.set_grad_enabled(backward):
                value = loss()
            if backward:
                trainer.optimizer.zero_grad(set_to_none=True)
                value.backward()  # type: ignore[no-untyped-call]
            return count * len(truths)

        return step


@dataclass(frozen=True, slots=True)
class Rate:
    """Images by wall clock, and by all threads' processor time, which a busy machine does not stretch."""

    images_per_s: float
    images_per_cpu_s: float


def rate(step: Step, seconds: float, device: torch.device) -> Rate:
    """Runs `step` for about `seconds`, at least once."""
    _wait(device)
    wall, cpu, images = time.perf_counter(), time.process_time(), 0
    while images == 0 or time.perf_counter() - wall < seconds:
        images += step()
    _wait(device)
    return Rate(images / (time.perf_counter() - wall), images / (time.process_time() - cpu))


def medians(rates: list[Rate]) -> dict[str, float]:
    """JSON-ready medians over the rounds."""
    return {
        "images_per_s": round(statistics.median(r.images_per_s for r in rates), 1),
        "images_per_cpu_s": round(statistics.median(r.images_per_cpu_s for r in rates), 1),
    }


def flops_per_image(step: Step) -> float:
    """Floating-point operations of matrix products and convolutions, 2 for a multiplication with its sum."""
    with FlopCounterMode(display=False) as counter:
        images = step()
    return float(counter.get_total_flops()) / images


class Products:
    """Square matrix products in the precision of training: the best that this device does."""

    def __init__(self, device: torch.device, sizes: tuple[int, ...]) -> None:
        self.device, self.dtype = device, torch.bfloat16 if supports_bf16(device) else torch.float32
        self.matrices = [torch.randn(size, size, device=device, dtype=self.dtype) for size in sizes]
        for matrix in self.matrices:
            matrix @ matrix

    def flops(self, seconds: float) -> tuple[float, float]:
        """The best size's operations a second, by wall clock and by processor time."""
        found = [rate(self._product(matrix), seconds, self.device) for matrix in self.matrices]
        scale = [2.0 * len(matrix) ** 3 for matrix in self.matrices]
        wall = max(r.images_per_s * s for r, s in zip(found, scale, strict=True))
        return wall, max(r.images_per_cpu_s * s for r, s in zip(found, scale, strict=True))

    def _product(self, matrix: Tensor) -> Step:
        out = torch.empty_like(matrix)

        def step() -> int:
            torch.mm(matrix, matrix, out=out)
            return 1

        return step


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def device_facts(device: torch.device) -> dict[str, Any]:
    """The accelerator's name and driver; None on a CPU, whose name stands with the machine's facts."""
    if device.type != "cuda":
        return {"device": "cpu", "threads": torch.get_num_threads()}
    import subprocess

    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    return {"device": torch.cuda.get_device_name(device), "driver": driver, "cuda": torch.version.cuda}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def person(crops: Tensor) -> Person:
    """Somebody to train on, of crops (n, 3, 80, 80)."""
    return Person("somebody", crops)
