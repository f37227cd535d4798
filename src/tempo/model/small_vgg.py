"""A small VGG that trains in seconds: a first layer to be whitened, then blocks of two 3x3 convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from tempo.model.argument_checks import require_side
from tempo.model.initialisation import initialise

_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class SmallVGG(nn.Module):
    """A first convolution without padding, then per width: conv, max pooling, norm, act, conv, norm, act.

    Blocks of two 3x3 convolutions between poolings are VGG's (arXiv:1409.1556). A global maximum and a linear
    layer without bias follow; `head_scale` multiplies its outputs, so that training starts with small ones.
    A block does not pool what is a single pixel, so any image size works. Starting weights: see `initialise`.

    Args:
        input_shape: (C, H, W) of the images.
        num_classes: length of the output.
        widths: channels of each block, one or more.
        first_filters: filters of the first convolution `first`; `init.whiten=first` whitens it.
        first_kernel: its side in pixels.
        activation: relu or gelu.
        head_scale: factor of the outputs, above 0.

    Raises:
        ValueError: an argument out of range, or images that are too small.

    Source of the order of layers and of the scaled head: Jordan, arXiv:2404.00498, section 3.1.
    """

    static_graph: ClassVar[bool] = True

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        num_classes: int,
        widths: Sequence[int],
        first_filters: int,
        first_kernel: int,
        activation: Literal["relu", "gelu"],
        head_scale: float,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(
                f"model.widths={list(widths)} must be one or more numbers of channels, each 1 or more; set "
                "model.widths=[32,128,128]"
            )
        for key, number in (("first_filters", first_filters), ("first_kernel", first_kernel)):
            if number < 1:
                raise ValueError(f"model.{key}={number} must be 1 or more; set model.{key}=2")
        if not head_scale > 0:
            raise ValueError(f"model.head_scale={head_scale} must be above 0; set model.head_scale=0.125")
        require_side(
            name="small_vgg", input_shape=input_shape, smallest_side=first_kernel, why="the first convolution"
        )
        self.head_scale = head_scale
        self.first = nn.Conv2d(input_shape[0], first_filters, kernel_size=first_kernel)
        self.first_activation = _ACTIVATIONS[activation]()
        channels, side = [first_filters, *widths], min(input_shape[1:]) - first_kernel + 1
        blocks = []
        for number, width in enumerate(widths):
            blocks.append(_block(channels[number], width, activation, pools=side > 1))
            side = max(1, side // 2)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels[-1], num_classes, bias=False)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of float images [N, C, H, W]."""
        features = self.blocks(self.first_activation(self.first(images)))
        return self.head(features.amax(dim=(2, 3))) * self.head_scale


def _block(in_channels: int, out_channels: int, activation: str, *, pools: bool) -> nn.Sequential:
    act = _ACTIVATIONS[activation]
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.MaxPool2d(2) if pools else nn.Identity(),
        nn.BatchNorm2d(out_channels),
        act(),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        act(),
    )
