"""Encoder, bottleneck and decoder: shapes, and the properties that keep the source's identity out."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from models.autoencoder import Bottleneck, Encoder, EncoderConfig
from models.decoders import Decoder, DecoderConfig, Residual, Upscale
from models.vgg19 import VGG19


@pytest.fixture
def bottleneck() -> Bottleneck:
    torch.manual_seed(0)
    return Bottleneck(512, EncoderConfig())


@pytest.fixture
def features() -> Tensor:
    """(2, 512, 8, 8), non-negative as after a ReLU."""
    return torch.rand(2, 512, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def encoder(imagenet: VGG19, faces: Tensor) -> Encoder:
    """With real weights in the frozen part, scaled on the faces."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig())
    encoder.vgg.load_state_dict(imagenet.state_dict())
    encoder.fit_scale(faces)
    return encoder


def test_the_default_networks_fit_together() -> None:
    encoder, decoder = EncoderConfig(), DecoderConfig()
    assert encoder.latent_channels == decoder.latent_channels
    assert Decoder(decoder)(torch.zeros(2, decoder.latent_channels, 4, 4)).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("residual", [True, False])
def test_a_decoder_of_other_sizes(residual: bool) -> None:
    config = DecoderConfig(latent_channels=5, channels=(8, 6, 4, 2), residual=residual)
    assert Decoder(config)(torch.zeros(3, 5, 4, 4)).shape == (3, 3, 64, 64)


def test_bottleneck_shape(bottleneck: Bottleneck, features: Tensor) -> None:
    latent = bottleneck(features)
    assert latent.shape == (2, 128, 4, 4)
    assert latent.min() >= 0


def test_everything_passes_through_the_narrow_vector(bottleneck: Bottleneck, features: Tensor) -> None:
    """Two pictures with one vector have one latent: nothing goes around it."""
    assert bottleneck.narrow.out_features == 512, "of the 32,768 numbers of relu4_1"
    same = torch.randn(1, 512).expand(2, -1)
    bottleneck.narrow.register_forward_hook(lambda *_: same)
    first, second = bottleneck(features)
    assert torch.equal(first, second)


def test_the_length_of_the_vector_carries_nothing(bottleneck: Bottleneck, features: Tensor) -> None:
    expected = bottleneck(features)
    bottleneck.narrow.register_forward_hook(lambda _module, _inputs, vector: vector * 7)
    assert torch.allclose(bottleneck(features), expected, atol=2e-3)


def test_a_decoder_sees_the_latent_only() -> None:
    """No skip connection from the encoder is possible."""
    assert list(inspect.signature(Decoder.forward).parameters) == ["self", "latent"]
    decoder = Decoder(DecoderConfig(channels=(8, 8, 8, 8)))
    assert not list(decoder.buffers()), "nothing is kept from one picture to the next"


def test_faces_give_latents(encoder: Encoder, faces: Tensor) -> None:
    with torch.no_grad():
        latents = encoder(faces[:3])
        alone = encoder(faces[1:2])
    assert latents.shape == (3, 128, 4, 4)
    assert torch.allclose(latents[1:2], alone, atol=1e-4), "the batch does not matter"
    assert not torch.allclose(latents[0], latents[1], atol=1e-2), "two faces are two latents"


def test_the_scale_makes_all_channels_alike(encoder: Encoder, faces: Tensor) -> None:
    with torch.no_grad():
        deviation = encoder.features(faces).std(dim=(0, 2, 3))
    assert deviation.max() < 1.001
    assert (deviation > 0.999).float().mean() > 0.8, "but for channels that hardly ever fire here"


def test_a_channel_that_never_fires_is_not_blown_up(imagenet: VGG19, faces: Tensor) -> None:
    encoder = Encoder(EncoderConfig())
    encoder.vgg.load_state_dict(imagenet.state_dict())
    last = encoder.vgg.convolutions["block4_conv1"]
    with torch.no_grad():
        last.get_parameter("bias")[:5] = -1e9
    encoder.fit_scale(faces[:4])
    assert encoder.scale.isfinite().all()
    assert encoder.scale.flatten()[0] == encoder.scale.max()
    assert encoder.scale.max() / encoder.scale.median() < 21, "the floor is a twentieth of the median"


def test_an_upscale_starts_without_a_checkerboard() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        y = Upscale(4, 6)(torch.randn(2, 4, 5, 5))
    assert y.shape == (2, 6, 10, 10)
    assert y.std() > 0.1
    first = y[..., ::2, ::2]
    for other in (y[..., 1::2, ::2], y[..., ::2, 1::2], y[..., 1::2, 1::2]):
        assert torch.equal(other, first)


def test_a_residual_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 6, 5, 5)
    assert torch.equal(Residual(6)(x), x)
