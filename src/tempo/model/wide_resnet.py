"""Wide ResNet of Zagoruyko and Komodakis: WRN-depth-k, k times as many channels as a thin ResNet."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from tempo.model.argument_checks import blocks_of_depth, check_dropout
from tempo.model.cifar_resnet import group
from tempo.model.initialisation import initialise

STEM_WIDTH = 16


class PreactivationBlock(nn.Module):
    """y = shortcut(x) + F(x); F is twice (batch norm, ReLU, 3x3 convolution) with dropout between.

    If the channels change, norm and ReLU come before the branching and the shortcut is a 1x1 convolution;
    otherwise it is the identity.
    """

    static_graph: ClassVar[bool] = True

    def __init__(self, *, in_channels: int, out_channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.projection: nn.Conv2d | None = None
        if in_channels != out_channels:
            self.projection = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        activated = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.projection is None else self.projection(activated)
        residual = F.relu(self.bn2(self.conv1(activated)), inplace=True)
        if self.dropout:
            residual = F.dropout(residual, self.dropout, self.training)
        return shortcut + self.conv2(residual)


class WideResNet(nn.Module):
    """6n + 4 layers: a 3x3 convolution, three groups of n blocks (16k, 32k, 64k channels), a linear layer.

    The second and third group halve the image with stride 2; norm, ReLU and a global average follow. Any
    image size works, because strides round up. Starting weights: see `initialise`.

    Args:
        input_shape: (C, H, W) of the images.
        num_classes: length of the output.
        depth: layers with weights, 6n + 4.
        widen_factor: k, 1 or more; the paper's WRN-28-10 (k = 10) has 36.5 million parameters.
        dropout: probability in [0, 1) between a block's convolutions; the paper takes 0 or 0.3 for CIFAR.

    Raises:
        ValueError: a setting outside the ranges above.

    Source: Zagoruyko, Komodakis 2016, *Wide Residual Networks*, arXiv:1605.07146, tables 1 and 4.
    """

    static_graph: ClassVar[bool] = True

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        num_classes: int,
        depth: int,
        widen_factor: int,
        dropout: float,
    ) -> None:
        super().__init__()
        count = blocks_of_depth(depth, name="a wide ResNet", step=6, offset=4)
        if widen_factor < 1:
            raise ValueError(
                f"model.widen_factor={widen_factor} leaves no channels; set model.widen_factor=10"
            )
        check_dropout(dropout)
        widths = [16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        block = partial(PreactivationBlock, dropout=dropout)
        self.conv1 = nn.Conv2d(input_shape[0], STEM_WIDTH, kernel_size=3, padding=1, bias=False)
        self.group1 = group(block, STEM_WIDTH, widths[0], count, stride=1)
        self.group2 = group(block, widths[0], widths[1], count, stride=2)
        self.group3 = group(block, widths[1], widths[2], count, stride=2)
        self.bn = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of float images [N, C, H, W]."""
        x = self.group3(self.group2(self.group1(self.conv1(images))))
        x = F.relu(self.bn(x), inplace=True)
        return self.fc(x.mean(dim=(2, 3)))
