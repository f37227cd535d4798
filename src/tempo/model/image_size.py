"""Refuse, before training, images that a network cannot take."""

from __future__ import annotations

import torch
from torch import nn

LARGEST_TRIED_SIDE = 512
# What a forward pass raises on images of a wrong size, in torch, torchvision and timm.
SIZE_ERRORS = (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError)


def refusal(*, name: str, input_shape: tuple[int, int, int], reason: str) -> ValueError:
    """The error, in one line, for images of `input_shape` (C, H, W) that network `name` cannot take."""
    _, height, width = input_shape
    reason = " ".join(reason.split()).rstrip(".!")
    return ValueError(
        f"{name} cannot take images of {height}x{width}: {reason}. Use images of another size "
        "(data.image_size, where the data set has it) or model=resnet20, which takes any size"
    )


def require_side(*, name: str, input_shape: tuple[int, int, int], smallest_side: int, why: str) -> None:
    """Raise ValueError unless both sides of the images (C, H, W) reach `smallest_side` pixels."""
    if min(input_shape[1:]) < smallest_side:
        reason = f"{why} needs {smallest_side}x{smallest_side} or more"
        raise refusal(name=name, input_shape=input_shape, reason=reason)


def require_forward(*, network: nn.Module, name: str, input_shape: tuple[int, int, int]) -> None:
    """Raise ValueError unless `network` can process images of `input_shape` (C, H, W).

    Passes a batch through on torch's meta device, where shapes are computed and numbers are not: quick
    for the largest network, and no weight, statistic or random state changes.
    """
    failure = _failure(network, input_shape)
    if failure is None:
        return
    channels, height, width = input_shape
    smallest = _smallest_side(network, channels)
    if smallest is not None and min(height, width) < smallest:
        reason = f"its strides and pooling need {smallest}x{smallest} or more"
    else:
        reason = str(failure)
    raise refusal(name=name, input_shape=input_shape, reason=reason)


def _failure(network: nn.Module, input_shape: tuple[int, int, int]) -> Exception | None:
    """The error of a forward pass over two images in evaluation mode, or None."""
    named_tensors = [*network.named_parameters(), *network.named_buffers()]
    on_meta = {name: tensor.to("meta") for name, tensor in named_tensors}
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            torch.func.functional_call(network, on_meta, torch.zeros(2, *input_shape, device="meta"))
    except SIZE_ERRORS:
        return _failure_with_numbers(network, input_shape)
    finally:
        network.train(was_training)
    return None


def _failure_with_numbers(network: nn.Module, input_shape: tuple[int, int, int]) -> Exception | None:
    """Settle what the meta device refused: it lacks some operators, so only real numbers convict a size."""
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            network(torch.zeros(2, *input_shape, device=device))
    except SIZE_ERRORS as error:
        return error
    return None


def _smallest_side(network: nn.Module, channels: int) -> int | None:
    """Side of the smallest square images that work; None where size is not a matter of enough pixels."""
    if _failure(network, (channels, LARGEST_TRIED_SIDE, LARGEST_TRIED_SIDE)) is not None:
        return None
    too_small, large_enough = 0, LARGEST_TRIED_SIDE
    while large_enough - too_small > 1:
        side = (too_small + large_enough) // 2
        if _failure(network, (channels, side, side)) is None:
            large_enough = side
        else:
            too_small = side
    return large_enough
