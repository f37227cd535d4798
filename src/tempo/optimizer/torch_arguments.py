"""Our knobs under torch's names: lr, wd, momentum, beta2."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from tempo.errors import UserError, nearest
from tempo.optimizer.names_and_ranges import check_names

# Keys of the configuration that are not for the optimizer's constructor.
_NOT_FOR_TORCH = ("decay_norm_and_bias",)


def torch_arguments(
    optimizer_class: type[torch.optim.Optimizer], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Keyword arguments of `optimizer_class` for the settings of a configuration.

    `wd` becomes `weight_decay`; `momentum` stays, or becomes beta1 of `betas` with `beta2` beside it, each
    with torch's default where it is not given. All else keeps torch's own name. `fused` is switched on where
    the class has it, unless the settings say otherwise or ask for `foreach` or `differentiable`, which
    exclude it.

    Raises UserError for a setting that the class does not have.
    """
    parameters = inspect.signature(optimizer_class).parameters
    accepted = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name != "params" and parameter.kind is not parameter.VAR_KEYWORD
    }
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings.items()
        if not name.startswith("_") and name not in _NOT_FOR_TORCH
    }
    if "fused" not in accepted and given.get("fused", False) is None:
        del given["fused"]  # null leaves the choice to us, and this class has none
    check_names(given)
    _refuse_unknown(optimizer_class.__name__, given, _knobs(set(accepted)))
    if "wd" in given:
        given["weight_decay"] = given.pop("wd")
    if "betas" in accepted:
        beta1, beta2 = accepted["betas"]
        given["betas"] = (given.pop("momentum", beta1), given.pop("beta2", beta2))
    if "fused" in accepted and given.get("fused") is None:
        given["fused"] = not (given.get("foreach") or given.get("differentiable"))
    return given


def _knobs(accepted: set[str]) -> set[str]:
    """Names a configuration may use for a class that accepts `accepted`."""
    knobs = accepted - {"weight_decay", "betas"}
    if "weight_decay" in accepted:
        knobs.add("wd")
    if "betas" in accepted:
        knobs |= {"momentum", "beta2"}
    return knobs


def _refuse_unknown(class_name: str, given: Mapping[str, Any], knobs: set[str]) -> None:
    for name in given:
        if name in knobs:
            continue
        raise UserError(
            f"optimizer.{name} is no setting of {class_name}.{nearest(name, knobs)} "
            f"Leave it out with ~optimizer.{name}, or use one of {', '.join(sorted(knobs))}"
        )
