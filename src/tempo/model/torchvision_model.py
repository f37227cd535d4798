"""Any classification network of torchvision.models, by its name, with random starting weights."""

from __future__ import annotations

import difflib
from typing import Any

import torchvision
from torch import nn

from tempo.model.refusals import refusal, require_forward

# Without these torchvision returns a pair of outputs in training, or warns that a default will change.
AUXILIARY = {"aux_logits": False, "init_weights": True}


def torchvision_model(*, input_shape: tuple[int, int, int], num_classes: int, name: str) -> nn.Module:
    """Build torchvision's network `name` for images of `input_shape` (C, H, W) and `num_classes` outputs.

    The module is torchvision's own, so a state dict has torchvision's names. Starting weights are random, as
    torchvision draws them. The auxiliary classifiers of googlenet and inception_v3 are off: training
    returns logits [N, num_classes] and nothing else. The vision transformers and MaxViT are built for the
    images' size.

    Raises:
        ValueError: an unknown name (the nearest is named), images that do not have 3 channels, or a size
            that the network cannot take.

    Source: torchvision.models of the installed torchvision.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean '{found[0]}'?" if found else ""
        raise ValueError(
            f"model.name={name} is no classification network of torchvision.models: "
            f"set model.name=resnet50, for example.{hint}"
        )
    channels, height, width = input_shape
    if channels != 3:
        raise ValueError(
            f"{name} of torchvision takes images with 3 channels, these have {channels}: use a network that "
            "adapts (model=resnet20, model=timm) or images in colour"
        )
    try:
        network = torchvision.models.get_model(
            name, weights=None, num_classes=num_classes, **_own_arguments(name, height, width)
        )
    except (ValueError, AssertionError) as error:
        raise refusal(name=name, input_shape=input_shape, reason=str(error)) from error
    require_forward(network=network, name=name, input_shape=input_shape)
    return network


def _own_arguments(name: str, height: int, width: int) -> dict[str, Any]:
    """What the constructor of `name` needs to know beyond the number of classes."""
    if name in ("googlenet", "inception_v3"):
        return dict(AUXILIARY)
    if name.startswith("vit_") and height == width:
        return {"image_size": height}
    if name.startswith("maxvit_"):
        return {"input_size": (height, width)}
    return {}
