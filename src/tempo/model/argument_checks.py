"""Refuse, in one line and before training, settings and images that a network cannot take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

SIZE_ERRORS = (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError)
"""Errors of a forward pass on images of a wrong size, in torch, torchvision and timm."""


MOST_LAYERS = 10_000
"""Deepest network: more layers take minutes to build, and are most likely a typing error."""


def blocks_of_depth(depth: int, *, name: str, step: int, offset: int) -> int:
    """Return n of a network of `step * n + offset` layers; ValueError unless n is a whole number above 0."""
    if depth > MOST_LAYERS:
        raise ValueError(
            f"model.depth={depth} must be at most {MOST_LAYERS} layers; set model.depth="
            f"{(MOST_LAYERS - offset) // step * step + offset} or less"
        )
    n, rest = divmod(depth - offset, step)
    if rest or n < 1:
        below = max(1, n) * step + offset
        raise ValueError(
            f"model.depth={depth} does not fit {name}, which has {step}n + {offset} layers; "
            f"set model.depth={below} or {below + step}"
        )
    return n


def check_widths(widths: Sequence[int], example: str) -> None:
    """Raise ValueError unless `widths` are three numbers of channels, each 1 or more."""
    if len(widths) != 3 or min(widths) < 1:
        raise ValueError(
            f"model.widths={list(widths)} must be three numbers of channels, each 1 or more; "
            f"set model.widths={example}"
        )


def check_dropout(dropout: float) -> None:
    """Raise ValueError unless `dropout` is in [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"model.dropout={dropout} is not a probability in [0, 1); set model.dropout=0.0")


def refusal(*, name: str, input_shape: tuple[int, int, int], reason: str) -> ValueError:
    """Return the one-line error for images of `input_shape` (C, H, W) that network `name` cannot take."""
    _, height, width = input_shape
    reason = " ".join(reason.split()).rstrip(".!")
    return ValueError(
        f"{name} cannot take images of {height}x{width}: {reason}; use images of another size "
        "(data.image_size, if the data set has it) or model=resnet20, which takes any size"
    )


def require_side(*, name: str, input_shape: tuple[int, int, int], smallest_side: int, why: str) -> None:
    """Raise ValueError unless both sides of the images (C, H, W) have at least `smallest_side` pixels."""
    if min(input_shape[1:]) < smallest_side:
        reason = f"{why} needs {smallest_side}x{smallest_side} or more"
        raise refusal(name=name, input_shape=input_shape, reason=reason)


def require_forward(*, network: nn.Module, name: str, input_shape: tuple[int, int, int]) -> None:
    """Raise ValueError, with torch's own reason, unless `network` takes images of `input_shape` (C, H, W).

    Tries two images in evaluation mode, so no statistic of a norm and no random state changes. First on
    torch's meta device, which computes shapes without numbers and is quick for the largest network; it lacks
    some operators, so real numbers confirm what it refuses.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            try:
                tensors = dict([*network.named_parameters(), *network.named_buffers()])
                on_meta = {key: tensor.to("meta") for key, tensor in tensors.items()}
                torch.func.functional_call(network, on_meta, torch.zeros(2, *input_shape, device="meta"))
            except SIZE_ERRORS:
                network(torch.zeros(2, *input_shape, device=device))
    except SIZE_ERRORS as error:
        raise refusal(name=name, input_shape=input_shape, reason=str(error)) from error
    finally:
        network.train(was_training)
