"""Build a torch optimizer from the optimizer's node of a configuration."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tempo.errors import UserError, nearest
from tempo.optimizer.capabilities import traits_of_class
from tempo.optimizer.knobs import RATE_KEYS, check_names
from tempo.optimizer.parameter_groups import parameter_groups

_NOT_SHOWN = ("_target_", *RATE_KEYS)


def build_optimizer(model: nn.Module, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return the optimizer of a model.

    Args:
        model: the network to train.
        settings: `_target_` (dotted path of a class) and its settings: `lr`, `wd`, `momentum`, `beta2` if the
            class has them, `decay_norm_and_bias` (default true), `layer_decay`, `lr_of` and
            `lr_of_biases` (see `parameter_groups`), and further arguments by the class's own names.

    Raises:
        UserError: the path does not lead to an optimizer, the class does not have or refuses a setting, or
            the model has nothing to train.
    """
    target = str(settings.get("_target_", ""))
    optimizer_class = _optimizer_class(target)
    arguments = torch_arguments(optimizer_class, settings)
    groups = parameter_groups(
        model,
        wd=arguments.get("weight_decay"),
        decay_norm_and_bias=bool(settings.get("decay_norm_and_bias", True)),
        **{key: settings.get(key) for key in RATE_KEYS},
    )
    if any("lr_scale" in group for group in groups) and traits_of_class(optimizer_class).needs_closure:
        raise UserError(
            f"{optimizer_class.__name__} searches one step length for all parameters, which cannot have "
            "rates of their own; set optimizer.layer_decay=null optimizer.lr_of=null "
            "optimizer.lr_of_biases=null, or optimizer=adamw"
        )
    try:
        return optimizer_class(groups, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        # Foreign classes word their refusals in their own names, so all settings are shown in ours.
        given = " ".join(
            f"optimizer.{key}={value}" for key, value in settings.items() if key not in _NOT_SHOWN
        )
        raise UserError(f"{target} refuses its settings: {error}; change one of {given}") from error


def _optimizer_class(target: str) -> type[torch.optim.Optimizer]:
    """Return the class at a dotted path, or raise UserError if there is none."""
    module_name, _, name = target.rpartition(".")
    remedy = "Set optimizer._target_=torch.optim.SGD"
    if not module_name:
        raise UserError(f"optimizer._target_={target!r} is not the dotted path of an optimizer. {remedy}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"optimizer._target_={target} cannot be imported ({error}). {remedy}") from error
    classes = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    if name not in classes:
        raise UserError(f"optimizer._target_={target} is not an optimizer.{nearest(name, classes)} {remedy}")
    return classes[name]


def torch_arguments(
    optimizer_class: type[torch.optim.Optimizer], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keyword arguments of a class for the settings of a configuration.

    `wd` becomes `weight_decay`. `momentum` stays, or becomes the beta1 of `betas` with `beta2` next to it,
    each with torch's default if it is not given. `fused` is on if the class has it, unless it is set, or
    `foreach` or `differentiable`, which exclude it, are asked for. All other settings keep torch's names.

    Raises:
        UserError: a setting that the class does not have.
    """
    accepted = {
        name: parameter.default
        for name, parameter in inspect.signature(optimizer_class).parameters.items()
        if name != "params" and parameter.kind is not parameter.VAR_KEYWORD
    }
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings.items()
        if name not in ("_target_", "decay_norm_and_bias", *RATE_KEYS)
    }
    if "fused" not in accepted and given.get("fused", False) is None:
        del given["fused"]  # null leaves the choice to us, and this class has none
    _check_known(optimizer_class.__name__, given, set(accepted))
    if "wd" in given:
        given["weight_decay"] = given.pop("wd")
    if "betas" in accepted:
        beta1, beta2 = accepted["betas"]
        given["betas"] = (given.pop("momentum", beta1), given.pop("beta2", beta2))
    if "fused" in accepted and given.get("fused") is None:
        given["fused"] = not (given.get("foreach") or given.get("differentiable"))
    return given


def _check_known(class_name: str, given: Mapping[str, Any], accepted: set[str]) -> None:
    check_names(given)
    known = accepted - {"weight_decay", "betas"}
    known |= {"wd"} if "weight_decay" in accepted else set()
    known |= {"momentum", "beta2"} if "betas" in accepted else set()
    for name in given.keys() - known:
        raise UserError(
            f"optimizer.{name} is not a setting of {class_name}.{nearest(name, known)} "
            f"Leave it out (or ~optimizer.{name}). Known: {', '.join(sorted(known))}"
        )
