"""The loop of the paper preset, epoch by epoch, and what is measured of its outcome."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import DivergedError
from models.losses import gaussian_window, ssim_map
from models.paper import PaperDecoder
from models.paper_data import Encoded, order
from models.paper_runs import DecoderState
from models.paper_steps import Stepper
from models.trainer import MAX_BAD_STEPS

log = logging.getLogger("models.paper_training")


@dataclass(frozen=True, slots=True)
class Budget:
    """What one decoder may use: image updates, and minutes if there is a limit. The nearer one counts."""

    updates: int
    minutes: float | None = None

    def share_done(self, state: DecoderState, running: float = 0.0) -> float:
        """0..1; `running`: seconds that are not in the state yet."""
        shares = [state.updates / self.updates]
        if self.minutes is not None:
            shares.append((state.seconds + running) / (60 * self.minutes))
        return max(shares)


def train_epochs(
    stepper: Stepper, state: DecoderState, seed: int, budget: Budget
) -> Iterator[tuple[float, int]]:
    """The loop. Yields mean loss and bad steps of every epoch; `state` goes along."""
    photos, batch, bad_in_a_row = len(stepper.data), len(stepper.places), 0
    if state.updates == 0:
        state.stages[0] = _look(stepper)
    while budget.share_done(state) < 1:
        epoch = state.updates // photos
        goal = min((epoch + 1) * photos, budget.updates)
        steps, start = math.ceil((goal - state.updates) / batch), time.monotonic()
        places = order(seed, state.updates, steps * batch, photos).to(stepper.device)
        for part in torch.split(places, batch):
            stepper(part)
            state.updates += batch
            if budget.share_done(state, time.monotonic() - start) >= 1:
                break
        loss, bad, taken = stepper.collect()
        state.seconds += time.monotonic() - start
        bad_in_a_row = bad_in_a_row + bad if bad == taken else 0
        if bad:
            log.warning(
                "epoch %d: %d of %d steps gave no finite loss or gradient and were skipped", epoch, bad, taken
            )
        if bad_in_a_row >= MAX_BAD_STEPS:
            raise DivergedError(
                f"{bad_in_a_row} steps in a row gave no finite loss; resume from the last checkpoint"
            )
        if (state.updates // photos).bit_length() > epoch.bit_length():  # epochs 1, 2, 4, 8, ...
            state.stages[state.updates] = _look(stepper)
        yield loss, bad


def measure(decoder: PaperDecoder, seen: Encoded, unseen: Encoded) -> dict[str, dict[str, float]]:
    """Loss, SSIM and PSNR of whole pictures, decoded from their encodings."""
    sets = {"training photos": seen, "unseen photos": unseen}
    return {name: _likeness(decoder, data) for name, data in sets.items() if len(data)}


@torch.no_grad()
def _likeness(decoder: PaperDecoder, data: Encoded) -> dict[str, float]:
    window = gaussian_window().to(data.truths.device)
    rows = []
    for places in torch.split(torch.arange(len(data), device=data.truths.device), 64):
        latents, truths = data.batch(places)
        decoded = decoder(latents.float())
        error = (decoded - truths).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
        absolute = (decoded - truths).abs().mean(dim=(1, 2, 3))
        ssim = ssim_map(decoded, truths, window).mean(dim=(1, 2, 3))
        rows.append(torch.stack([absolute, ssim, -10 * error.log10()]))
    loss, ssim, psnr = torch.cat(rows, dim=1).mean(dim=1).tolist()
    return {"loss": round(loss, 4), "ssim": round(ssim, 4), "psnr": round(psnr, 2)}


@torch.no_grad()
def _look(stepper: Stepper) -> Tensor:
    """Three training photos as they are decoded now, uint8 (3, 3, 64, 64)."""
    places = torch.tensor(shown_places(len(stepper.data)), device=stepper.device)
    decoded = stepper.decoder(stepper.data.batch(places)[0].float())
    pixels: Tensor = (decoded * 255).round().to(torch.uint8).contiguous().cpu()
    return pixels


def shown_places(photos: int) -> list[int]:
    return [0, photos // 3, 2 * photos // 3]
