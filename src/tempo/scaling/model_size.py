"""How large a network is: parameters, and operations by torch's own counter."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tempo.config.check import as_target
from tempo.model.refusals import SIZE_ERRORS
from tempo.run.build_network import build_network
from tempo.scaling.model_table import PUBLISHED_SIDE, ModelSize
from tempo.scaling.plan import Network

_CHANNELS = 3


def size_of(network: Network, *, image_size: int, classes: int) -> ModelSize:
    """Build the network without its numbers (torch's meta device) and count.

    Raises:
        UserError: there is no such network, or it does not take images of this size.
    """
    module = _on_meta(network, image_size, classes)
    trained = [each for each in module.parameters() if each.requires_grad]
    return ModelSize(
        name=network.name,
        parameters=sum(each.numel() for each in module.parameters()),
        gradient_bytes=sum(each.nbytes for each in trained),
        image_size=image_size,
        flops=flops(module, image_size),
        flops_at_224=flops(module, PUBLISHED_SIDE),
    )


def flops(network: nn.Module, side: int) -> int | None:
    """Operations of a forward pass over one image; None for a size that the network does not take.

    Source: torch.utils.flop_counter, which counts convolutions and matrix products, 2 for each
    multiplication with its addition.
    """
    device = next(network.parameters()).device
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network.eval()(torch.empty(1, _CHANNELS, side, side, device=device))
    except SIZE_ERRORS:
        return None
    return int(counter.get_total_flops())


def _on_meta(network: Network, side: int, classes: int) -> nn.Module:
    model = as_target(network.node)
    shape = (_CHANNELS, side, side)
    try:
        with torch.device("meta"):
            return build_network(model, 0, shape, classes)
    except (NotImplementedError, RuntimeError):
        return build_network(model, 0, shape, classes)  # a constructor that looks at its numbers
