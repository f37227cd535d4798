"""The second set of weights that some runs evaluate: a moving average, or an optimizer's own average."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tempo.distributed.fsdp2 import own_parts
from tempo.errors import UserError


def moving_average(network: nn.Module, decay: float, warmup: bool) -> AveragedModel:
    """Return the exponential moving average of weights and buffers, to be updated after each step.

    With `warmup`, the decay after n steps is min(decay, (1 + n) / (10 + n)), as in TensorFlow's
    ExponentialMovingAverage, so that a short run forgets its first weights.
    """

    def average_own_parts(averages: Any, current: Any, count: Any) -> None:
        n = int(count) if warmup else 0
        average = get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)) if warmup else decay)
        # Parameters may be split over processes while buffers are whole.
        average(own_parts(averages), own_parts(current), count)

    averaged = AveragedModel(network, multi_avg_fn=average_own_parts, use_buffers=True)
    return averaged.requires_grad_(False)  # DDP would wait for its gradients


def optimizers_average(network: nn.Module) -> AveragedModel:
    """Return a copy of the network for the average that the optimizer keeps; `take_average` fills it.

    Raises:
        UserError: the network has batch normalization, whose running statistics fit only the trained weights.
    """
    if any(name.endswith("running_mean") for name, _ in network.named_buffers()):
        raise UserError(
            "this optimizer evaluates an average of the weights, but the network's batch normalization has "
            "running statistics of other weights; use model=mlp, model=cnn3 or optimizer=adamw"
        )
    return AveragedModel(network).requires_grad_(False)


@torch.no_grad()
def take_average(averaged: AveragedModel, network: nn.Module, optimizer: Any) -> None:
    """Copy the weights that `optimizer.eval()` writes into `averaged`, leaving the trained weights unchanged.

    The `eval` and `train` of schedule-free optimizers turn y into x and back in place, with rounding errors.
    Without the copies below, saving more often would change the result.
    """
    trained = [parameter.clone() for parameter in network.parameters()]
    optimizer.eval()
    averaged.module.load_state_dict(network.state_dict())
    optimizer.train()
    for parameter, value in zip(network.parameters(), trained, strict=True):
        parameter.copy_(value)
