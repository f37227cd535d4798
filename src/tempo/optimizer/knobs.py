"""Names and ranges of the optimizers' settings in a configuration; imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from math import inf
from typing import Any

from tempo.errors import UserError

_OUR_NAMES = {
    "weight_decay": ("wd",),
    "learning_rate": ("lr",),
    "betas": ("momentum", "beta2"),
    "beta1": ("momentum",),
}
"""Names in torch or in textbooks of settings that have another name in a configuration."""

RATE_KEYS = ("layer_decay", "lr_of", "lr_of_biases")
"""Settings of every optimizer that give groups of parameters rates of their own."""

# setting: (whether a value is in range, the range in words, an example)
_RANGES: dict[str, tuple[Callable[[float], bool], str, str]] = {
    "lr": (lambda x: 0 < x < inf, "above 0", "0.1"),
    "wd": (lambda x: 0 <= x < inf, "0 or more", "1e-4"),
    "layer_decay": (lambda x: 0 < x <= 1, "in (0, 1], or null", "0.7"),
    "lr_of_biases": (lambda x: 0 < x < inf, "above 0, or null", "2"),
    "lr_of_rest": (lambda x: 0 < x < inf, "above 0", "0.5"),
    "momentum": (lambda x: 0 <= x < 1, "in [0, 1)", "0.9"),
    "adamw_momentum": (lambda x: 0 <= x < 1, "in [0, 1)", "0.9"),
    "sgd_momentum": (lambda x: 0 <= x < 1, "in [0, 1)", "0.85"),
    "beta2": (lambda x: 0 <= x < 1, "in [0, 1)", "0.999"),
    "dampening": (lambda x: 0 <= x <= 1, "in [0, 1]", "0"),
    "eps": (lambda x: x >= 0, "0 or more", "1e-8"),
    # torch.optim.Muon raises for 100 or more, at its first step.
    "ns_steps": (lambda x: 1 <= x < 100, "in [1, 99]", "5"),
    "tolerance_grad": (lambda x: x >= 0, "0 or more", "1e-7"),
    "tolerance_change": (lambda x: x >= 0, "0 or more", "1e-9"),
    "warmup_steps": (lambda x: x >= 0, "0 or more", "0"),
    "max_eval": (lambda x: x >= 1, "1 or more, or null", "25"),
    "max_iter": (lambda x: x >= 1, "1 or more", "20"),
    "history_size": (lambda x: x >= 1, "1 or more", "10"),
    "max_cg": (lambda x: x >= 1, "1 or more", "20"),
    "max_trials": (lambda x: x >= 1, "1 or more", "20"),
    "c1": (lambda x: 0 < x < 0.5, "in (0, 0.5)", "1e-4"),
    "c2": (lambda x: 0 < x < 1, "in (0, 1)", "0.9"),
    "forcing": (lambda x: 0 < x < 1, "in (0, 1)", "0.5"),
    "max_memory_gb": (lambda x: x > 0, "above 0", "2"),
}
# torch's kernels fail on other values of these, or take them for true.
_FLAGS = frozenset(
    {"amsgrad", "capturable", "centered", "decoupled_weight_decay", "differentiable", "foreach", "fused"}
    | {"maximize", "nesterov"}
)


def our_name_for(key: str, value: object = None, present: Collection[str] = tuple(_RANGES)) -> str | None:
    """Return a line with our name for a setting that is known by another one; None for any other key.

    `present` are the settings that the optimizer has: SGD has no second beta.
    """
    ours = [name for name in _OUR_NAMES.get(key, ()) if name in present]
    if not ours:
        return None
    values = re.findall(r"[^][(),\s]+", str(value)) if value is not None else []
    if len(values) != len(ours):
        values = [_RANGES[name][2] for name in ours]
    remedy = " ".join(f"optimizer.{name}={number}" for name, number in zip(ours, values, strict=True))
    names = " and ".join(f"optimizer.{name}" for name in ours)
    return f"optimizer.{key} is called {names} here; set {remedy}"


def check_names(optimizer: Mapping[str, Any]) -> None:
    """Raise UserError for a setting of the optimizer's node that has another name here."""
    for key, value in optimizer.items():
        if line := our_name_for(key, value, optimizer):
            raise UserError(line)


def knob_types(signature: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of an optimizer class of ours, under the names that its node has."""
    named = {"weight_decay": "wd"}
    types = {named.get(name, name): annotation for name, annotation in signature.items() if name != "params"}
    return types | {
        "decay_norm_and_bias": "bool",
        "layer_decay": "float | None",
        "lr_of": "Mapping[str, float] | None",
        "lr_of_biases": "float | None",
    }


def check_knobs(optimizer: Mapping[str, Any]) -> None:
    """Raise UserError for the first setting of the optimizer's node with a wrong name or value."""
    check_names(optimizer)
    for key, value in optimizer.items():
        if key in _FLAGS and not (value is None or isinstance(value, bool)):
            raise UserError(f"optimizer.{key}={value!r} is not true, false or null; set optimizer.{key}=null")
        if key not in _RANGES or (value is None and key in ("max_eval", "layer_decay", "lr_of_biases")):
            continue
        in_range, words, example = _RANGES[key]
        remedy = f"must be {words}; set e.g. optimizer.{key}={example}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"optimizer.{key}={value!r} is not a number: it {remedy}")
        if not in_range(value):
            raise UserError(f"optimizer.{key}={value} {remedy}")
    _check_rates(optimizer.get("lr_of"))


def _check_rates(lr_of: Any) -> None:
    remedy = "set e.g. 'optimizer.lr_of={backbone: 0.1}'"
    if lr_of is not None and not isinstance(lr_of, Mapping):
        raise UserError(f"optimizer.lr_of={lr_of!r} does not name parameters and their factors; {remedy}")
    for prefix, factor in (lr_of or {}).items():
        is_number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not is_number or not 0 < factor < inf:
            raise UserError(
                f"optimizer.lr_of={{{prefix}: {factor}}} must be a factor above 0; {remedy}, or freeze them: "
                f"model.freeze=[{prefix}]"
            )
