"""New networks from the weights of old ones, also where the recipe changed between them."""

from __future__ import annotations

import torch

from models.autoencoder import Encoder, EncoderConfig
from models.decoders import Decoder, DecoderConfig
from models.errors import CheckpointError


def encoder_from(old: Encoder, config: EncoderConfig) -> Encoder:
    """`old`'s weights in an encoder of `config`. CheckpointError where the shapes differ."""
    encoder = Encoder(config)
    try:
        encoder.load_state_dict(old.state_dict())
    except RuntimeError as error:
        raise CheckpointError("--from holds an encoder of another shape than the preset's") from error
    return encoder


@torch.no_grad()
def decoder_from(old: Decoder, config: DecoderConfig) -> Decoder:
    """`old`'s weights in a decoder of `config`; a mask that `old` has not is learned from nothing."""
    decoder = Decoder(config)
    state = old.state_dict()
    try:
        for name in ("to_rgb.weight", "to_rgb.bias"):
            new = torch.zeros_like(decoder.state_dict()[name])
            planes = min(len(new), len(state[name]))
            new[:planes] = state[name][:planes]
            state[name] = new
        decoder.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError("--from holds decoders of another shape than the preset's") from error
    return decoder
