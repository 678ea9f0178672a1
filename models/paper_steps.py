"""One update of a paper decoder: eager, or a CUDA graph of the whole step."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.paper import BETAS, LEARNING_RATE, PaperDecoder
from models.paper_data import Encoded
from models.trainer import supports_bf16

log = logging.getLogger(__name__)
WARM_UP = 3
"""Eager steps before a capture, so that cuDNN and cuBLAS have chosen and allocated; then undone."""


class Stepper:
    """Forward, backward and Adam for a batch of photos, without a word to the host.

    A step whose loss or gradient is no number changes nothing (`found_inf` makes fused Adam skip it, as
    under a GradScaler) and is counted in `bad`; loss and count stay on the device until `collect()`.
    """

    def __init__(self, decoder: PaperDecoder, data: Encoded, batch: int) -> None:
        self.data, self.device = data, data.truths.device
        self.decoder = decoder.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.low = supports_bf16(self.device)
        cuda = self.device.type == "cuda"
        self.optimizer = torch.optim.Adam(
            self.decoder.parameters(), lr=LEARNING_RATE, betas=BETAS, fused=True, capturable=cuda
        )
        self.places = torch.zeros(batch, dtype=torch.int64, device=self.device)
        self.lost = torch.zeros((), device=self.device)
        self.bad = torch.zeros((), device=self.device)
        self.taken = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, places: Tensor) -> None:
        """One update on the photos at `places` (batch,), int64 on the device."""
        self.places.copy_(places)
        (self._replay or self._step)()
        self.taken += 1

    def collect(self) -> tuple[float, int, int]:
        """Mean loss of the good steps since the last call, bad steps, all steps. Waits for the device."""
        bad, taken = int(self.bad.item()), self.taken
        loss = self.lost.item() / (taken - bad) if taken > bad else float("nan")
        self.lost.zero_()
        self.bad.zero_()
        self.taken = 0
        return loss, bad, taken

    def loss(self, latents: Tensor, truths: Tensor) -> Tensor:
        """Mean absolute error; `truths` (N, 3, 64, 64) in 0..1."""
        # a weight is used once a step, so the cache of casts saves nothing, and a graph must not keep it
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low, cache_enabled=False):
            decoded = self.decoder(latents)
        return nn.functional.l1_loss(decoded, truths)

    def _step(self) -> None:
        loss = self.loss(*self.data.batch(self.places))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self.decoder.parameters() if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        loss = loss.detach()
        bad = 1 - (loss.isfinite() & norms.isfinite().all()).float()
        self.optimizer.found_inf = bad  # type: ignore[attr-defined]
        self.optimizer.step()
        self.lost += loss.nan_to_num(0, 0, 0) * (1 - bad)
        self.bad += bad

    # ------------------------------------------------------------------ CUDA
    @property
    def captured(self) -> bool:
        return self._replay is not None

    def capture(self) -> None:
        """Records the step as a CUDA graph: at batch 64 launches would cost more than arithmetic.

        Stays eager, with a warning, where that fails.
        """
        if self.device.type != "cuda":
            return
        kept = self._state()
        try:
            with torch.cuda.device(self.device):
                self._replay = self._captured()
        except RuntimeError as error:
            log.warning("no CUDA graph, steps are launched one by one: %s", error)
        self._restore(kept)

    def _captured(self) -> Callable[[], None]:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay

    def _tensors(self) -> dict[tuple[int, str], Tensor]:
        """Everything that a step changes, by parameter: the weight and Adam's state."""
        found: dict[tuple[int, str], Tensor] = {}
        for number, parameter in enumerate(self.decoder.parameters()):
            found[number, "weight"] = parameter.detach()
            for name, value in self.optimizer.state.get(parameter, {}).items():
                found[number, name] = value
        return found

    def _state(self) -> dict[tuple[int, str], Tensor]:
        return {key: tensor.clone() for key, tensor in self._tensors().items()}

    def _restore(self, kept: dict[tuple[int, str], Tensor]) -> None:
        """In place, as the graph knows the tensors by address; what was not there yet is zero."""
        for key, tensor in self._tensors().items():
            if key in kept:
                tensor.copy_(kept[key])
            else:
                tensor.zero_()
        self.lost.zero_()
        self.bad.zero_()
