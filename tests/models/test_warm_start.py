"""Old weights in new networks: what fits is kept, what is new starts from nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from models.autoencoder import Encoder
from models.decoders import Decoder
from models.errors import CheckpointError
from models.warm_start import decoder_from, encoder_from
from tests.models.fakes import SMALL_DECODER, SMALL_ENCODER

NO_MASK = replace(SMALL_DECODER, mask=False)


def test_a_decoder_keeps_all_its_weights() -> None:
    old = Decoder(SMALL_DECODER)
    old.fit_tones(torch.rand(9, 3))
    new = decoder_from(old, SMALL_DECODER)
    kept = new.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in old.state_dict().items())
    with torch.no_grad():
        new.to_rgb.weight.zero_()
    assert old.to_rgb.weight.any(), "and is a copy"


def test_a_mask_that_was_not_there_starts_undecided() -> None:
    old = Decoder(NO_MASK)
    new = decoder_from(old, SMALL_DECODER)
    latent = torch.rand(2, SMALL_DECODER.latent_channels, 4, 4)
    with torch.no_grad():
        (was, none), (face, mask) = old.relative(latent), new.relative(latent)
    assert none is None and mask is not None
    assert torch.allclose(face, was, atol=1e-5), "the trunk and the colours are the old ones"
    assert (mask == 0).all()


def test_a_mask_may_be_left_behind() -> None:
    old = Decoder(SMALL_DECODER)
    new = decoder_from(old, NO_MASK)
    latent = torch.rand(2, SMALL_DECODER.latent_channels, 4, 4)
    with torch.no_grad():
        assert torch.allclose(new.relative(latent)[0], old.relative(latent)[0], atol=1e-5)


def test_an_encoder_keeps_its_weights_where_its_config_changed_without_them() -> None:
    old = Encoder(replace(SMALL_ENCODER, normalise_tone=False))
    torch.nn.init.uniform_(old.scale)
    new = encoder_from(old, SMALL_ENCODER)
    kept = new.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in old.state_dict().items())
    assert new.config.normalise_tone and new.meter.enabled


@pytest.mark.parametrize("change", [{"width": 16}, {"squeezed": 4}, {"latent_channels": 4}])
def test_an_encoder_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="encoder of another shape") as caught:
        encoder_from(Encoder(SMALL_ENCODER), replace(SMALL_ENCODER, **change))
    assert "\n" not in str(caught.value)


def test_a_decoder_of_another_shape_is_refused() -> None:
    for other in (replace(SMALL_DECODER, residual=False), replace(SMALL_DECODER, channels=(16, 16, 8, 4))):
        with pytest.raises(CheckpointError, match="decoders of another shape") as caught:
            decoder_from(Decoder(SMALL_DECODER), other)
        assert "\n" not in str(caught.value)
