"""The optimizer's knobs: what they are called here, and in which ranges they make sense."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tempo.errors import UserError

_OUR_NAMES = {
    "weight_decay": "optimizer.wd",
    "learning_rate": "optimizer.lr",
    "betas": "optimizer.momentum and optimizer.beta2",
    "beta1": "optimizer.momentum",
}
"""Torch's and the textbooks' names for the knobs that the configuration calls otherwise."""

_MAY_BE_NULL = ("max_eval",)
_FLAGS = frozenset(
    {"amsgrad", "capturable", "centered", "decoupled_weight_decay", "differentiable", "foreach", "fused"}
    | {"maximize", "nesterov"}
)
"""Switches of torch's optimizers, whose kernels fail on other things, or take them for true."""


def our_name_for(key: str) -> str | None:
    """Return a line that gives our name for a knob under another name, or None if `key` is not one."""
    if key not in _OUR_NAMES:
        return None
    return f"optimizer.{key} is called {_OUR_NAMES[key]} here; set it under that name"


def check_names(optimizer: Mapping[str, Any]) -> None:
    """Raise UserError for the first key of the optimizer's node that has another name here."""
    for line in filter(None, map(our_name_for, optimizer)):
        raise UserError(line)


def knob_types(signature: Mapping[str, str]) -> dict[str, str]:
    """Parameters of an optimizer of ours under the names that its node has."""
    named = {"weight_decay": "wd"}
    return {named.get(key, key): kind for key, kind in signature.items() if key != "params"} | {
        "decay_norm_and_bias": "bool"
    }


def check_knobs(optimizer: Mapping[str, Any]) -> None:
    """Numbers in their ranges, under our names.

    Raises:
        UserError: the first that is not.
    """
    ranges: dict[str, tuple[Callable[[float], bool], str]] = {
        "lr": (lambda x: x > 0 and math.isfinite(x), "above 0, e.g. optimizer.lr=0.1"),
        "wd": (lambda x: x >= 0 and math.isfinite(x), "0 or more, e.g. optimizer.wd=1e-4"),
        "momentum": (lambda x: 0 <= x < 1, "in [0, 1), e.g. optimizer.momentum=0.9"),
        "adamw_momentum": (lambda x: 0 <= x < 1, "in [0, 1), e.g. optimizer.adamw_momentum=0.9"),
        "beta2": (lambda x: 0 <= x < 1, "in [0, 1), e.g. optimizer.beta2=0.999"),
        "dampening": (lambda x: 0 <= x <= 1, "in [0, 1], e.g. optimizer.dampening=0"),
        "eps": (lambda x: x >= 0, "0 or more, e.g. optimizer.eps=1e-8"),
        "ns_steps": (lambda x: 1 <= x < 100, "in [1, 99], e.g. optimizer.ns_steps=5"),
        "tolerance_grad": (lambda x: x >= 0, "0 or more, e.g. optimizer.tolerance_grad=1e-7"),
        "tolerance_change": (lambda x: x >= 0, "0 or more, e.g. optimizer.tolerance_change=1e-9"),
        "warmup_steps": (lambda x: x >= 0, "0 or more, e.g. optimizer.warmup_steps=0"),
        "max_eval": (lambda x: x >= 1, "1 or more, or null, e.g. optimizer.max_eval=25"),
        "max_iter": (lambda x: x >= 1, "1 or more, e.g. optimizer.max_iter=20"),
        "history_size": (lambda x: x >= 1, "1 or more, e.g. optimizer.history_size=10"),
        "max_cg": (lambda x: x >= 1, "1 or more, e.g. optimizer.max_cg=20"),
        "max_trials": (lambda x: x >= 1, "1 or more, e.g. optimizer.max_trials=20"),
        "c1": (lambda x: 0 < x < 0.5, "in (0, 0.5), e.g. optimizer.c1=1e-4"),
        "c2": (lambda x: 0 < x < 1, "in (0, 1), e.g. optimizer.c2=0.9"),
        "forcing": (lambda x: 0 < x < 1, "in (0, 1), e.g. optimizer.forcing=0.5"),
        "max_memory_gb": (lambda x: x > 0, "above 0, e.g. optimizer.max_memory_gb=2"),
    }
    check_names(optimizer)
    for key, (holds, remedy) in ranges.items():
        if key not in optimizer:
            continue
        value = optimizer[key]
        if value is None and key in _MAY_BE_NULL:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"optimizer.{key}={value!r} is not a number: it must be {remedy}")
        if not holds(value):
            raise UserError(f"optimizer.{key}={value} must be {remedy}")
    for key in _FLAGS & optimizer.keys():
        if not (optimizer[key] is None or isinstance(optimizer[key], bool)):
            raise UserError(
                f"optimizer.{key}={optimizer[key]!r} is not true, false or null: optimizer.{key}=null"
            )
