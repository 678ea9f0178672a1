"""Encoder, bottleneck and decoder: shapes, and the properties that keep the source's identity out."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from models.autoencoder import Bottleneck, Encoder, EncoderConfig, with_tone
from models.decoders import Decoder, DecoderConfig, Residual, Upscale
from models.tone import TONES, gains
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
    assert encoder.planes == encoder.latent_channels + 3
    assert Decoder(decoder)(torch.zeros(2, encoder.planes, 4, 4)).shape == (2, 4, 64, 64)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_a_decoder_of_other_sizes(residual: bool, mask: bool) -> None:
    config = DecoderConfig(latent_channels=5, channels=(8, 6, 4, 2), residual=residual, mask=mask)
    assert Decoder(config)(torch.zeros(3, 8, 4, 4)).shape == (3, 4 if mask else 3, 64, 64)


def latent(tone: list[float], seed: int = 0) -> Tensor:
    """(1, 5 + 3, 4, 4): a face of that tone."""
    inner = torch.rand(1, 5, 4, 4, generator=torch.Generator().manual_seed(seed)) * 4
    return with_tone(inner, torch.tensor([tone]))


@pytest.fixture
def small() -> Decoder:
    torch.manual_seed(0)
    return Decoder(DecoderConfig(latent_channels=5, channels=(8, 8, 8, 8))).requires_grad_(
        requires_grad=False
    )


@pytest.mark.parametrize("exposure", [-30.0, -1.0, 0.0, 30.0])
def test_what_a_decoder_gives_is_always_a_picture_and_a_mask(small: Decoder, exposure: float) -> None:
    given = small(latent([exposure, 0.2, -0.2]))
    assert given.isfinite().all()
    assert given.min() >= 0 and given.max() <= 1


def test_a_decoder_gives_the_face_in_the_tone_of_the_source(small: Decoder) -> None:
    face, mask = small.relative(latent([-0.8, 0, 0])[:, :-TONES])
    assert mask is not None
    tone = [-1.5, 0.2, -0.1]
    given = small(latent(tone))
    assert torch.allclose(given[:, :3], (face * gains(torch.tensor([tone]))).clamp(0, 1))
    assert torch.equal(given[:, 3:], torch.sigmoid(mask)), "and the mask knows no tone"


def test_a_tone_is_clamped_to_what_the_person_was_seen_in(small: Decoder) -> None:
    low, high = [-1.5, -0.1, -0.2], [-1.0, 0.1, 0.2]
    small.fit_tones(torch.tensor([low, high]), outside=0.0)
    assert torch.allclose(small.low, torch.tensor(low)) and torch.allclose(small.high, torch.tensor(high))
    assert torch.equal(small(latent([-9, -9, -9])), small(latent(low)))
    assert torch.equal(small(latent([9, 9, 9])), small(latent(high)))
    inside = small(latent([-1.2, 0, 0]))
    assert not torch.equal(inside, small(latent(low))) and not torch.equal(inside, small(latent(high)))


def test_the_range_of_tones_leaves_the_extremes_out(small: Decoder) -> None:
    tones = torch.zeros(100, 3)
    tones[0], tones[1] = 5, -5
    small.fit_tones(tones)
    assert small.low.abs().max() < 0.1 and small.high.abs().max() < 0.1


def test_bottleneck_shape(bottleneck: Bottleneck, features: Tensor) -> None:
    given = bottleneck(features)
    assert given.shape == (2, 128, 4, 4)
    assert given.min() >= 0


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
    before = [buffer.clone() for buffer in decoder.buffers()]
    decoder(torch.rand(1, 131, 4, 4))
    assert all(torch.equal(a, b) for a, b in zip(before, decoder.buffers(), strict=True)), "nothing is kept"


def test_faces_give_latents(encoder: Encoder, faces: Tensor) -> None:
    with torch.no_grad():
        latents = encoder(faces[:3])
        alone = encoder(faces[1:2])
    assert latents.shape == (3, 131, 4, 4)
    assert torch.equal(latents[:, -3:], latents[:, -3:, :1, :1].expand(-1, -1, 4, 4)), "planes of the tone"
    assert torch.allclose(latents[:, -3:, 0, 0], encoder.meter(faces[:3] / 255))
    assert torch.allclose(latents[1:2], alone, atol=1e-4), "the batch does not matter"
    assert not torch.allclose(latents[0], latents[1], atol=1e-2), "two faces are two latents"


def inner(encoder: Encoder, rgb: Tensor) -> Tensor:
    """The latent without its planes of tone."""
    with torch.no_grad():
        planes: Tensor = encoder(rgb)
    return planes[:, :-TONES]


def test_light_and_colour_of_the_source_do_not_reach_the_latent(encoder: Encoder, faces: Tensor) -> None:
    """But in the planes of the tone: issue 2's dark identities broke on bright sources."""
    rgb = faces[:4] * 0.5  # what is clipped at white cannot be undone
    expected = inner(encoder, rgb)
    between_people = (expected - expected.roll(1, dims=0)).abs().mean()
    for gain in (0.4, 1.8):
        assert torch.allclose(inner(encoder, rgb * gain), expected, atol=2e-3)
    tint = torch.tensor([1.3, 1.0, 0.7]).view(1, 3, 1, 1)
    assert torch.allclose(inner(encoder, rgb * tint), expected, atol=2e-3)
    assert (inner(encoder, (rgb * 4).clamp(0, 255)) - expected).abs().mean() < between_people


def test_without_the_meter_light_does_reach_the_latent(imagenet: VGG19, faces: Tensor) -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(normalise_tone=False))
    encoder.vgg.load_state_dict(imagenet.state_dict())
    encoder.fit_scale(faces)
    assert not torch.allclose(inner(encoder, faces[:2]), inner(encoder, faces[:2] * 0.5), atol=2e-2)
    with torch.no_grad():
        tones = encoder(faces[:2])[:, -TONES:, 0, 0]
    assert torch.allclose(gains(tones), torch.ones(1)), "and a decoder gives back what it is given"


def test_features_may_be_normalised_for_the_ablation(features: Tensor) -> None:
    torch.manual_seed(0)
    bottleneck = Bottleneck(512, EncoderConfig(instance_norm=True))
    expected = bottleneck(features)
    assert torch.allclose(bottleneck(features * 3 + 1), expected, atol=1e-2)
    assert not torch.allclose(bottleneck(features.flip(0)), expected, atol=1e-2)


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
