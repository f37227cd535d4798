"""A network of three convolutions, on which the `distributed` paper compares optimizers."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from tempo.model.argument_checks import check_dropout, check_widths, require_side
from tempo.model.initialisation import initialise


class CNN3(nn.Module):
    """Three times (3x3 convolution, ReLU, 2x2 max pooling), then dropout and a linear layer.

    The paper gives this order. It does not give the widths (32, 64, 128 here), the dropout rate (0.5) or the
    padding, which here keeps the size, so that 8x8 images fit. Starting weights: see `initialise`.

    Args:
        input_shape: (C, H, W) of the images; H and W are 8 or more, because each pooling halves them.
        num_classes: length of the output.
        widths: channels of the three convolutions.
        dropout: probability in [0, 1), before the linear layer.

    Raises:
        ValueError: not three widths, dropout outside [0, 1), or images that are too small.
    """

    static_graph: ClassVar[bool] = True

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        num_classes: int,
        widths: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__()
        check_widths(widths, "[32,64,128]")
        check_dropout(dropout)
        require_side(name="cnn3", input_shape=input_shape, smallest_side=8, why="pooling three times")
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        for filters in widths:
            convolution = nn.Conv2d(channels, filters, kernel_size=3, padding=1)
            # ReLU behind the pooling: both commute to the bit, and it has a quarter of the work.
            layers += [convolution, nn.MaxPool2d(2), nn.ReLU(inplace=True)]
            channels, height, width = filters, height // 2, width // 2
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(channels * height * width, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of float images [N, C, H, W]."""
        return self.output(self.dropout(self.features(images).flatten(1)))
