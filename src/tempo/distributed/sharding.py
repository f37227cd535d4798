"""Tensors that are split over processes (torch's DTensor), and the same values whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(values: Any, *, keep: bool = True) -> Any:
    """`values` (dicts, lists, tensors) with every split tensor gathered into host memory.

    A collective operation: all ranks call it on the same structure. Without `keep` a rank gives its parts and
    has an empty tensor in the place of each.
    """
    if isinstance(values, DTensor):
        gathered: Tensor = values.full_tensor().detach()
        return gathered.cpu() if keep else torch.empty(0)
    if isinstance(values, Mapping):
        return {name: whole(each, keep=keep) for name, each in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(whole(each, keep=keep) for each in values)
    return values


def own_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """What this process holds of each tensor: the tensor itself where it is not split."""
    return [each.to_local() if isinstance(each, DTensor) else each for each in tensors]


def load_whole(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Load whole values into a module, whether its parameters are split or not; RuntimeError as torch's."""
    own = module.state_dict()
    module.load_state_dict({name: _split_like(value, own.get(name)) for name, value in state.items()})


def split_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's whole state, cut as its parameters are."""
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parameter_of = dict(zip(numbers, parameters, strict=True))
    return {
        **state,
        "state": {
            number: {name: _split_like(value, parameter_of[number]) for name, value in values.items()}
            for number, values in state["state"].items()
        },
    }


def _split_like(value: Any, other: Any) -> Any:
    """`value` cut as `other` is, where it has its shape: a count of steps has not."""
    if not isinstance(other, DTensor) or not isinstance(value, Tensor) or value.shape != other.shape:
        return value
    # All ranks have read the same file: nothing need be sent.
    there = value.to(other.device)
    return distribute_tensor(there, other.device_mesh, other.placements, src_data_rank=None)
