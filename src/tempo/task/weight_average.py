"""The second set of weights that some runs evaluate: a moving average, or the optimizer's own average."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tempo.distributed.fsdp2 import own_parts
from tempo.errors import UserError


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of weights and buffers, to be updated after each step."""
    average = get_ema_multi_avg_fn(decay)

    def average_own_parts(averages: Any, current: Any, count: Any) -> None:
        average(
            own_parts(averages), own_parts(current), count
        )  # buffers are whole where parameters are split

    averaged = AveragedModel(network, multi_avg_fn=average_own_parts, use_buffers=True)
    return averaged.requires_grad_(False)  # not of the network that trains: DDP would wait for its gradients


def optimizers_average(network: nn.Module) -> AveragedModel:
    """A place for the average that the optimizer keeps; `take_average` fills it.

    Raises UserError for batch normalization: its running statistics are those of the weights that train.
    """
    if any(name.endswith("running_mean") for name, _ in network.named_buffers()):
        raise UserError(
            "this optimizer evaluates an average of the weights, and the network's batch normalization has "
            "the running statistics of other weights: model=mlp or model=cnn3, or optimizer=adamw"
        )
    return AveragedModel(network).requires_grad_(False)


@torch.no_grad()
def take_average(averaged: AveragedModel, network: nn.Module, optimizer: Any) -> None:
    """Copy into `averaged` what `optimizer.eval()` shows; the weights that train keep every bit.

    Schedule-free optimizers turn y into x and back in place, `eval` and `train`, which rounds: a run that is
    saved more often would be another run.
    """
    trained = [parameter.clone() for parameter in network.parameters()]
    optimizer.eval()
    averaged.module.load_state_dict(network.state_dict())
    optimizer.train()
    for parameter, value in zip(network.parameters(), trained, strict=True):
        parameter.copy_(value)
