"""Any classification network of torchvision.models, by name."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from tempo.errors import nearest
from tempo.model.argument_checks import refusal, require_forward

# Without these, torchvision returns a pair of outputs in training, or warns that a default will change.
AUXILIARY = {"aux_logits": False, "init_weights": True}


def torchvision_model(*, input_shape: tuple[int, int, int], num_classes: int, name: str) -> nn.Module:
    """Return torchvision's network `name` for images of `input_shape` (C, H, W) and `num_classes` outputs.

    Starting weights are random, as torchvision draws them. The auxiliary classifiers of googlenet and
    inception_v3 are off, so that training returns only logits [N, num_classes]. Vision transformers and
    MaxViT are built for the size of the images.

    Raises:
        ValueError: the name is unknown, the images do not have 3 channels, or the network cannot take their
            size.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise ValueError(
            f"model.name={name} is not a classification network of torchvision."
            f"{nearest(name, names)} Set for example model.name=resnet50"
        )
    channels, height, width = input_shape
    if channels != 3:
        raise ValueError(
            f"{name} of torchvision takes images with 3 channels, these have {channels}; use colour "
            "images or a network for any number of channels, e.g. model=resnet20 or model=timm"
        )
    try:
        network = torchvision.models.get_model(
            name, weights=None, num_classes=num_classes, **_own_arguments(name, height, width)
        )
    except (ValueError, AssertionError) as error:
        raise refusal(name=name, input_shape=input_shape, reason=str(error)) from error
    # Most of these networks accept any size when built and fail on small images in the forward pass.
    require_forward(network=network, name=name, input_shape=input_shape)
    return network


def _own_arguments(name: str, height: int, width: int) -> dict[str, Any]:
    """Return the arguments of the constructor of `name` besides the number of classes."""
    if name in ("googlenet", "inception_v3"):
        return dict(AUXILIARY)
    if name.startswith("vit_") and height == width:
        return {"image_size": height}
    if name.startswith("maxvit_"):
        return {"input_size": (height, width)}
    return {}
