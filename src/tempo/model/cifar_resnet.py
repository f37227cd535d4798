"""The thin ResNets of He et al. for CIFAR: 20 to 110 layers, shortcuts without parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from tempo.model.argument_checks import blocks_of_depth
from tempo.model.initialisation import initialise

WIDTHS = (16, 32, 64)


def shortcut(x: Tensor, *, stride: int, out_channels: int) -> Tensor:
    """Return the paper's option A, without parameters: every `stride`-th pixel, zeros in new channels.

    [N, C, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)].
    """
    if stride == 1 and x.shape[1] == out_channels:
        return x
    new_channels = out_channels - x.shape[1]
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, new_channels))


class BasicBlock(nn.Module):
    """y = ReLU(F(x) + shortcut(x)); F is two 3x3 convolutions with batch norm and a ReLU between them."""

    static_graph: ClassVar[bool] = True

    def __init__(self, *, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        residual = F.relu(self.bn1(self.conv1(x)), inplace=True)
        residual = self.bn2(self.conv2(residual))
        identity = shortcut(x, stride=self.stride, out_channels=residual.shape[1])
        return F.relu(residual + identity, inplace=True)


def group(
    block: Callable[..., nn.Module], in_channels: int, out_channels: int, count: int, *, stride: int
) -> nn.Sequential:
    """Return `count` blocks in a row, the first of which changes the channels and has the stride."""
    first = block(in_channels=in_channels, out_channels=out_channels, stride=stride)
    others = [block(in_channels=out_channels, out_channels=out_channels, stride=1) for _ in range(count - 1)]
    return nn.Sequential(first, *others)


class ResNet(nn.Module):
    """6n + 2 layers: a 3x3 convolution, three groups of n blocks with 16, 32 and 64 channels, a linear layer.

    The second and third group halve the image with stride 2; a global average follows the third. Any image
    size works, because strides round up. Starting weights: see `initialise`.

    Args:
        input_shape: (C, H, W) of the images.
        num_classes: length of the output.
        depth: layers with weights, 6n + 2. The paper's 20, 32, 44, 56 and 110 have 0.27, 0.46, 0.66, 0.85 and
            1.7 million parameters.

    Raises:
        ValueError: the depth is not 6n + 2.

    Source: He, Zhang, Ren, Sun 2015, *Deep Residual Learning for Image Recognition*, arXiv:1512.03385,
    section 4.2 and table 6.
    """

    static_graph: ClassVar[bool] = True

    def __init__(self, *, input_shape: tuple[int, int, int], num_classes: int, depth: int) -> None:
        super().__init__()
        count = blocks_of_depth(depth, name="a CIFAR ResNet", step=6, offset=2)
        self.conv1 = nn.Conv2d(input_shape[0], WIDTHS[0], kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.group1 = group(BasicBlock, WIDTHS[0], WIDTHS[0], count, stride=1)
        self.group2 = group(BasicBlock, WIDTHS[0], WIDTHS[1], count, stride=2)
        self.group3 = group(BasicBlock, WIDTHS[1], WIDTHS[2], count, stride=2)
        self.fc = nn.Linear(WIDTHS[2], num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of float images [N, C, H, W]."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = self.group3(self.group2(self.group1(x)))
        return self.fc(x.mean(dim=(2, 3)))
