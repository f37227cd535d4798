"""Any network of timm (PyTorch Image Models), by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from tempo.errors import nearest
from tempo.model.argument_checks import refusal, require_forward


def timm_model(*, input_shape: tuple[int, int, int], num_classes: int, name: str) -> nn.Module:
    """Return timm's network `name` for images of `input_shape` (C, H, W) and `num_classes` outputs.

    Starting weights are random, as timm draws them. Any number of channels works. Networks for one image size
    (vision transformers) are built for the size of the images.

    Raises:
        ValueError: timm is not installed, the name is unknown, or the network cannot take the image size.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            "model=timm needs the package timm, which is not installed; run pip install -e '.[models]'"
        ) from error
    if not timm.is_model(name):
        raise ValueError(
            f"model.name={name} is not a network of timm.{nearest(name, timm.list_models())} "
            "Set for example model.name=inception_v4"
        )
    channels, height, width = input_shape
    settings: dict[str, Any] = {}
    published = timm.get_pretrained_cfg(name)
    if published is not None and published.fixed_input_size:
        settings["img_size"] = (height, width)
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=num_classes, in_chans=channels, **settings
        )
    except (RuntimeError, ValueError, AssertionError) as error:
        raise refusal(name=name, input_shape=input_shape, reason=str(error)) from error
    require_forward(network=network, name=name, input_shape=input_shape)
    return network
