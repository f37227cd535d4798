"""The wide ResNet that L. N. Smith tuned in arXiv:1803.09820."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from tempo.model.argument_checks import blocks_of_depth, check_widths
from tempo.model.cifar_resnet import group
from tempo.model.initialisation import initialise


class WideBlock(nn.Module):
    """y = F(x) + shortcut(x); F is two 3x3 convolutions with batch norm and a ReLU between them.

    No ReLU follows the sum. With a stride, the shortcut is a 2x2 convolution of stride 2 with batch norm;
    without one, it is the identity.
    """

    static_graph: ClassVar[bool] = True

    def __init__(self, *, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.projection: nn.Conv2d | None = None
        if stride != 1:
            self.projection = nn.Conv2d(in_channels, out_channels, stride, stride=stride, bias=False)
            self.projection_bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        residual = F.relu(self.bn1(self.conv1(x)), inplace=True)
        residual = self.bn2(self.conv2(residual))
        if self.projection is None:
            return residual + x
        height, width = x.shape[2:]
        if height % 2 or width % 2:  # conv1 rounds an odd side up; a 2x2 convolution would round it down
            x = F.pad(x, (0, width % 2, 0, height % 2))
        return residual + self.projection_bn(self.projection(x))


class SmithWideResNet(nn.Module):
    """6n + 2 layers: a 3x3 convolution, three groups of n wide blocks, a global average, a linear layer.

    WRN-32-4 cannot be a network of Zagoruyko and Komodakis, whose depths are 6n + 4. Smith's file is named
    "widenet32 with k=4". It has 6n + 2 = 32 layers (n = 5) and blocks as in a thin ResNet, not pre-activated;
    k = 4 is the factor from each group to the next: 16, 64 and 256 channels, where a ResNet-32 times 4 would
    have 64, 128 and 256. This class builds that file without the biases of its convolutions, which the batch
    norm after each of them would remove. Any image size works: odd sides before a stride are padded by one
    pixel of zeros. Starting weights: see `initialise`.

    Args:
        input_shape: (C, H, W) of the images.
        num_classes: length of the output.
        depth: layers with weights without projections, 6n + 2.
        widths: channels of the three groups; the first convolution has as many as the first group.

    Raises:
        ValueError: the depth is not 6n + 2, or there are not three widths.

    Source: Smith 2018, *A disciplined approach to neural network hyper-parameters: Part 1*,
    arXiv:1803.09820; its published code lnsmith54/hyperParam1, Cifar/architectures/wide32cifar.prototxt.
    """

    static_graph: ClassVar[bool] = True

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        num_classes: int,
        depth: int,
        widths: tuple[int, ...],
    ) -> None:
        super().__init__()
        count = blocks_of_depth(depth, name="Smith's wide ResNet", step=6, offset=2)
        check_widths(widths, "[16,64,256]")
        self.conv1 = nn.Conv2d(input_shape[0], widths[0], kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.group1 = group(WideBlock, widths[0], widths[0], count, stride=1)
        self.group2 = group(WideBlock, widths[0], widths[1], count, stride=2)
        self.group3 = group(WideBlock, widths[1], widths[2], count, stride=2)
        self.fc = nn.Linear(widths[2], num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of float images [N, C, H, W]."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = self.group3(self.group2(self.group1(x)))
        return self.fc(x.mean(dim=(2, 3)))
