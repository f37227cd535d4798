"""DenseNet for small images: each layer reads the features of all layers before it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tempo.model.argument_checks import blocks_of_depth, check_dropout, require_side
from tempo.model.initialisation import initialise


class DenseLayer(nn.Module):
    """x_l = H_l([x_0, ..., x_{l-1}]): norm, ReLU, 3x3 convolution to `growth_rate` channels, dropout.

    With `bottleneck`, a 1x1 convolution to 4 * growth_rate channels (norm and ReLU before it) comes first.
    """

    static_graph: ClassVar[bool] = True

    def __init__(self, *, in_channels: int, growth_rate: int, bottleneck: bool, dropout: float) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.dropout = dropout
        width = in_channels
        if bottleneck:
            width = 4 * growth_rate
            self.norm0 = nn.BatchNorm2d(in_channels)
            self.conv0 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, growth_rate, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to the new features [N, growth_rate, H, W]."""
        if self.bottleneck:
            x = self._drop(self.conv0(F.relu(self.norm0(x), inplace=True)))
        return self._drop(self.conv1(F.relu(self.norm1(x), inplace=True)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class DenseBlock(nn.Sequential):
    """Dense layers; each reads the block's input and the outputs of all layers before it, concatenated."""

    static_graph: ClassVar[bool] = True

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C + layers * growth_rate, H, W]."""
        for layer in self:
            x = torch.cat((x, layer(x)), dim=1)
        return x


class Transition(nn.Module):
    """Norm, ReLU, 1x1 convolution, dropout and 2x2 average pooling between two dense blocks."""

    static_graph: ClassVar[bool] = True

    def __init__(self, *, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H // 2, W // 2]."""
        x = self.conv(F.relu(self.norm(x), inplace=True))
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        return F.avg_pool2d(x, 2)


class DenseNet(nn.Module):
    """Three dense blocks with transitions between them, then norm, ReLU, global average and a linear layer.

    The paper's DenseNet (k = 12) has depth 40, growth rate 12, no bottleneck, reduction 1 and 1.0 million
    parameters; its DenseNet-BC has depth 100, bottleneck, reduction 0.5 and 0.8 million. Starting weights:
    see `initialise`.

    Args:
        input_shape: (C, H, W) of the images; H and W are 4 or more, because two transitions halve them.
        num_classes: length of the output.
        depth: layers with weights, 3n + 4, or 6n + 4 with `bottleneck`.
        growth_rate: k, channels that each layer adds.
        bottleneck: whether a 1x1 convolution to 4k channels comes before each 3x3 one.
        reduction: theta in (0, 1], fraction of the channels that a transition keeps.
        dropout: probability in [0, 1) after each convolution but the first; the paper takes 0.2 without
            augmentation and 0 with it.

    Raises:
        ValueError: a setting outside the ranges above, or images that are too small.

    Source: Huang, Liu, van der Maaten, Weinberger 2017, *Densely Connected Convolutional Networks*,
    arXiv:1608.06993, section 3 and table 2.
    """

    static_graph: ClassVar[bool] = True
    early_metric: ClassVar[str] = "val/accuracy"  # radiuk2020 compares short runs of DenseNet by it

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        num_classes: int,
        depth: int,
        growth_rate: int,
        bottleneck: bool,
        reduction: float,
        dropout: float,
    ) -> None:
        super().__init__()
        kind = f"DenseNet with model.bottleneck={str(bottleneck).lower()}"
        layers_per_block = blocks_of_depth(depth, name=kind, step=6 if bottleneck else 3, offset=4)
        if growth_rate < 1:
            raise ValueError(f"model.growth_rate={growth_rate} adds no features; set model.growth_rate=12")
        if not 0 < reduction <= 1:
            raise ValueError(f"model.reduction={reduction} is not in (0, 1]; set model.reduction=1.0")
        check_dropout(dropout)
        require_side(name=f"DenseNet-{depth}", input_shape=input_shape, smallest_side=4, why="pooling twice")

        def block(in_channels: int) -> DenseBlock:
            layers = [
                DenseLayer(
                    in_channels=in_channels + layer * growth_rate,
                    growth_rate=growth_rate,
                    bottleneck=bottleneck,
                    dropout=dropout,
                )
                for layer in range(layers_per_block)
            ]
            return DenseBlock(*layers)

        def transition(in_channels: int) -> Transition:
            # The paper rounds down: floor(theta m) of m channels.
            kept = max(1, int(in_channels * reduction))
            return Transition(in_channels=in_channels, out_channels=kept, dropout=dropout)

        grown = layers_per_block * growth_rate
        # The paper starts DenseNet-BC with 2k channels and the plain form with 16.
        width = 2 * growth_rate if bottleneck and reduction < 1 else 16
        self.conv1 = nn.Conv2d(input_shape[0], width, kernel_size=3, padding=1, bias=False)
        self.block1 = block(width)
        self.transition1 = transition(width + grown)
        width = self.transition1.conv.out_channels
        self.block2 = block(width)
        self.transition2 = transition(width + grown)
        width = self.transition2.conv.out_channels
        self.block3 = block(width)
        self.norm = nn.BatchNorm2d(width + grown)
        self.fc = nn.Linear(width + grown, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of float images [N, C, H, W]."""
        x = self.transition1(self.block1(self.conv1(images)))
        x = self.block3(self.transition2(self.block2(x)))
        x = F.relu(self.norm(x), inplace=True)
        return self.fc(x.mean(dim=(2, 3)))
