"""From the configuration's optimizer node to a torch optimizer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tempo.errors import UserError, nearest
from tempo.optimizer.parameter_groups import parameter_groups
from tempo.optimizer.torch_arguments import torch_arguments


def build_optimizer(model: nn.Module, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer of `model` for `settings`: `_target_` (dotted path of a class) and its knobs.

    Knobs are `lr`, `wd`, `momentum`, `beta2` where the class has them, `decay_norm_and_bias` (default true),
    and the class's further arguments by its own names.

    Raises UserError for a path that is no optimizer, a setting it does not have or refuses, and a model
    with nothing to train.
    """
    target = str(settings.get("_target_", ""))
    optimizer_class = _optimizer_class(target)
    arguments = torch_arguments(optimizer_class, settings)
    groups = parameter_groups(
        model,
        wd=arguments.get("weight_decay"),
        decay_norm_and_bias=bool(settings.get("decay_norm_and_bias", True)),
    )
    try:
        return optimizer_class(groups, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        given = " ".join(
            f"optimizer.{name}={value}" for name, value in settings.items() if name != "_target_"
        )
        raise UserError(f"{target} refuses its settings: {error}; change one of {given}") from error


def _optimizer_class(target: str) -> type[torch.optim.Optimizer]:
    """The class at a dotted path; UserError where there is none."""
    module_name, _, name = target.rpartition(".")
    remedy = "Set optimizer._target_=torch.optim.SGD"
    if not module_name:
        raise UserError(f"optimizer._target_={target!r} is no dotted path of an optimizer. {remedy}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"optimizer._target_={target} cannot be imported ({error}). {remedy}") from error
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer):
        return found
    classes = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    ]
    raise UserError(f"optimizer._target_={target} is no optimizer.{nearest(name, classes)} {remedy}")
