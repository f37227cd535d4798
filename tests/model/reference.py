"""Building an option of conf/model by hand, and slow, readable forms of what the networks compute."""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from tempo.paths import ROOT

CONF_MODEL = ROOT / "conf" / "model"


def read_option(option: str) -> dict[str, Any]:
    """The values of conf/model/<option>.yaml, `_target_` among them."""
    return OmegaConf.to_container(OmegaConf.load(CONF_MODEL / f"{option}.yaml"), resolve=True)


def constructor(option: str) -> Any:
    module, _, name = read_option(option)["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def build(
    option: str, input_shape: tuple[int, int, int], num_classes: int = 10, **overrides: Any
) -> nn.Module:
    """The network of an option, its YAML's values overridden as on the command line."""
    settings = {**read_option(option), **overrides}
    del settings["_target_"]
    return constructor(option)(input_shape=input_shape, num_classes=num_classes, **settings)


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def option_a_shortcut(x: Tensor, *, stride: int, out_channels: int) -> Tensor:
    """Pixel by pixel: keep every `stride`-th, leave new channels at zero."""
    batch, channels, height, width = x.shape
    y = torch.zeros(batch, out_channels, math.ceil(height / stride), math.ceil(width / stride), dtype=x.dtype)
    for channel in range(channels):
        for row in range(0, height, stride):
            for column in range(0, width, stride):
                y[:, channel, row // stride, column // stride] = x[:, channel, row, column]
    return y


def batch_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """A channel at a time: scale (x - mean) / sqrt(var + 1e-5) + shift, with the batch's own statistics."""
    y = torch.empty_like(x)
    for channel in range(x.shape[1]):
        values = x[:, channel]
        variance = ((values - values.mean()) ** 2).mean()
        y[:, channel] = scale[channel] * (values - values.mean()) / (variance + 1e-5).sqrt() + shift[channel]
    return y


def convolution_3x3(x: Tensor, weight: Tensor) -> Tensor:
    """Sum over the nine neighbours; outside the image there are zeros."""
    batch, _, height, width = x.shape
    y = torch.zeros(batch, weight.shape[0], height, width, dtype=x.dtype)
    for row in range(height):
        for column in range(width):
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    if 0 <= row + down < height and 0 <= column + right < width:
                        neighbour = x[:, :, row + down, column + right]
                        y[:, :, row, column] += neighbour @ weight[:, :, down + 1, right + 1].T
    return y


def resnet_parameters(depth: int, *, channels: int, classes: int) -> int:
    """Closed form: with n blocks a group, a 3x3 convolution has 9 a b weights and a norm 2 b."""
    n = (depth - 2) // 6
    stem = 9 * channels * 16 + 2 * 16
    same = sum(9 * w * w + 2 * w for w in (16, 32, 64))
    wider = sum(9 * (w // 2) * w + 2 * w for w in (32, 64))
    first_of_16 = 9 * 16 * 16 + 2 * 16
    return stem + first_of_16 + wider + (2 * n - 1) * same + 64 * classes + classes


def densenet_parameters(depth: int, k: int, *, channels: int, classes: int) -> int:
    """Closed form for three blocks without bottleneck or compression, 16 channels after the stem."""
    n = (depth - 4) // 3
    widths = [16 + k * layer for layer in range(3 * n)]  # what each layer reads, all blocks in a row
    layers = sum(2 * w + 9 * w * k for w in widths)
    transitions = sum(2 * w + w * w for w in (16 + k * n, 16 + 2 * k * n))
    last = 16 + 3 * k * n
    return 9 * channels * 16 + layers + transitions + 2 * last + last * classes + classes


def wide_resnet_parameters(depth: int, k: int, *, channels: int, classes: int) -> int:
    """Closed form: pre-activation blocks, 1x1 projections where the width changes, final norm."""
    n = (depth - 4) // 6
    total = 9 * channels * 16
    for before, width in ((16, 16 * k), (16 * k, 32 * k), (32 * k, 64 * k)):
        first_norms = 2 * before + 2 * width
        projection = before * width if before != width else 0
        total += first_norms + 9 * before * width + 9 * width * width + projection
        total += (n - 1) * (4 * width + 18 * width * width)
    return total + 2 * 64 * k + 64 * k * classes + classes


def smith_parameters(widths: tuple[int, int, int], blocks: int, *, channels: int, classes: int) -> int:
    """Closed form of wide32cifar.prototxt without the biases of its convolutions; 2x2 projections."""
    a, b, c = widths
    total = 9 * channels * a + 2 * a + blocks * 2 * (9 * a * a + 2 * a)
    for before, width in ((a, b), (b, c)):
        total += 9 * before * width + 2 * width + 4 * before * width + 2 * width
        total += (2 * blocks - 1) * (9 * width * width + 2 * width)
    return total + c * classes + classes
