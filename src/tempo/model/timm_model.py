"""Any network of timm (PyTorch Image Models), by its name, with random starting weights."""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from tempo.model.refusals import refusal, require_forward


def timm_model(*, input_shape: tuple[int, int, int], num_classes: int, name: str) -> nn.Module:
    """Build timm's network `name` for images of `input_shape` (C, H, W) and `num_classes` outputs.

    The module is timm's own, so a state dict has timm's names. Starting weights are random, as timm draws
    them. Any number of channels works: timm adapts the first layer. Networks that are made for one image size
    (vision transformers) are built for the images' size.

    Raises:
        ValueError: timm is not installed, an unknown name (the nearest is named), or a size that the
            network cannot take.

    Source: timm of the installed version; it is in the extra `models`.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            "model=timm needs the package timm, which is not installed: pip install -e '.[models]'"
        ) from error
    if not timm.is_model(name):
        found = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.5)
        hint = f" Did you mean '{found[0]}'?" if found else ""
        raise ValueError(
            f"model.name={name} is no network of timm: set model.name=inception_v4, for example.{hint}"
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
