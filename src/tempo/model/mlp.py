"""Multilayer perceptron on the pixels of an image."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from tempo.model.initialisation import initialise


class MLP(nn.Module):
    """Linear layers with ReLU between them: h_0 = pixels, h_i = max(0, W_i h_{i-1} + b_i).

    With hidden = [128, 64, 32] on MNIST this is the 784-128-64-32-10 perceptron of M. Stopets and
    Yu. Shcherbyna, *Training deep models: optimization*, 2024. The paper does not give the starting weights;
    here: see `initialise`.

    Args:
        input_shape: (C, H, W) of the images, flattened to C * H * W inputs.
        num_classes: length of the output.
        hidden: units of each hidden layer, each 1 or more; empty for a linear classifier.

    Raises:
        ValueError: a layer without units.
    """

    static_graph: ClassVar[bool] = True

    def __init__(
        self, *, input_shape: tuple[int, int, int], num_classes: int, hidden: tuple[int, ...]
    ) -> None:
        super().__init__()
        if any(units < 1 for units in hidden):
            raise ValueError(
                f"model.hidden={list(hidden)} has a layer without units; set model.hidden=[128,64,32]"
            )
        channels, height, width = input_shape
        inputs = channels * height * width
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(inputs, units), nn.ReLU()]
            inputs = units
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(inputs, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of float images [N, C, H, W]."""
        return self.output(self.hidden(images.flatten(1)))
