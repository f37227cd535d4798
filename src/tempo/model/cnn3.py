"""A network of three convolutions, the one on which the `distributed` paper compares optimisers."""

from __future__ import annotations

from torch import Tensor, nn

from tempo.model.image_size import require_side
from tempo.model.initialisation import initialise

CONVOLUTIONS = 3


class CNN3(nn.Module):
    """Three times (3x3 convolution, ReLU, 2x2 max pooling), then dropout and a linear layer.

    The paper gives this order; it is silent on the widths (32, 64, 128 here), on the dropout rate (0.5)
    and on padding, which here keeps the size, so that 8x8 images still fit. Starting weights are He's
    (see `initialise`), biases zero. ReLU is computed behind the pooling: max and ReLU commute, values and
    gradients are the same to the bit, and it has a quarter of the work.

    Args:
        input_shape: (C, H, W) of the images; H and W of 8 or more, since each pooling halves them.
        num_classes: length of the output.
        widths: channels of the three convolutions.
        dropout: probability in [0, 1) in front of the linear layer.

    Raises:
        ValueError: not three widths, a dropout outside [0, 1), or images that are too small.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        num_classes: int,
        widths: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__()
        if len(widths) != CONVOLUTIONS or min(widths) < 1:
            raise ValueError(
                f"model.widths={list(widths)} must be three channel counts of 1 or more: "
                "set model.widths=[32,64,128]"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout={dropout} is no probability in [0, 1): set model.dropout=0.5")
        require_side(name="cnn3", input_shape=input_shape, smallest_side=8, why="pooling three times")
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        for filters in widths:
            convolution = nn.Conv2d(channels, filters, kernel_size=3, padding=1)
            layers += [convolution, nn.MaxPool2d(2), nn.ReLU(inplace=True)]
            channels, height, width = filters, height // 2, width // 2
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(channels * height * width, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Float images [N, C, H, W] -> logits [N, num_classes]."""
        return self.output(self.dropout(self.features(images).flatten(1)))
