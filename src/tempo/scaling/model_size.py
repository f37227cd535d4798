"""Count a network's parameters, and its operations with torch's own counter."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tempo.config.check import read_model
from tempo.model.argument_checks import SIZE_ERRORS
from tempo.run.build_network import build_network
from tempo.scaling.model_table import PUBLISHED_SIDE, ModelSize
from tempo.scaling.plan import CHANNELS, Network


def size_of(network: Network, *, image_size: int, classes: int) -> ModelSize:
    """Build the network on torch's meta device, without memory for its weights, and count.

    Raises:
        UserError: there is no such network, or it does not accept images of this size.
    """
    module = _on_meta(network, image_size, classes)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return ModelSize(
        name=network.name,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        gradient_bytes=sum(parameter.nbytes for parameter in trained),
        image_size=image_size,
        flops=flops(module, image_size),
        flops_at_224=flops(module, PUBLISHED_SIDE),
    )


def flops(network: nn.Module, side: int) -> int | None:
    """Count the operations of a forward pass over one image; None if the network does not accept the size.

    Source: torch.utils.flop_counter, which counts convolutions and matrix products, a multiplication
    with its addition as 2.
    """
    device = next(network.parameters()).device
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network.eval()(torch.empty(1, CHANNELS, side, side, device=device))
    except SIZE_ERRORS:
        return None
    return int(counter.get_total_flops())


def _on_meta(network: Network, side: int, classes: int) -> nn.Module:
    model, shape = read_model(network.node), (CHANNELS, side, side)
    try:
        with torch.device("meta"):
            return build_network(model, 0, shape, classes)
    except (NotImplementedError, RuntimeError):
        return build_network(model, 0, shape, classes)  # its constructor reads values of tensors
