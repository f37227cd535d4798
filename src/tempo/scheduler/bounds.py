"""Refuse arguments of schedules that are out of range, in one line with the fix."""

from __future__ import annotations

import math

from tempo.errors import UserError
from tempo.scheduler.schedule import MOMENTUM_OFF


def check_rate(key: str, value: float, *, zero_allowed: bool = False) -> None:
    """Raise UserError unless `scheduler.<key>` is a finite learning rate above 0."""
    if math.isfinite(value) and (value > 0 or (zero_allowed and value == 0)):
        return
    wanted = "0 or more" if zero_allowed else "above 0"
    raise UserError(f"scheduler.{key}={value} must be finite and {wanted}; set scheduler.{key}=0.1")


def check_rates(min_lr: float, max_lr: float, *, zero_allowed: bool = True) -> None:
    """Raise UserError unless `min_lr <= max_lr` and both are learning rates."""
    check_rate("max_lr", max_lr)
    check_rate("min_lr", min_lr, zero_allowed=zero_allowed)
    if min_lr > max_lr:
        raise UserError(
            f"scheduler.min_lr={min_lr} is above scheduler.max_lr={max_lr}; "
            f"set scheduler.min_lr={max_lr} scheduler.max_lr={min_lr}"
        )


def check_momenta(min_momentum: float | None, max_momentum: float | None) -> None:
    """Raise UserError unless both bounds are null or `0 <= min_momentum <= max_momentum < 1`."""
    if min_momentum is None and max_momentum is None:
        return
    if min_momentum is None or max_momentum is None:
        missing, present = ("min", max_momentum) if min_momentum is None else ("max", min_momentum)
        raise UserError(
            f"scheduler.{missing}_momentum=null while the other bound is {present}: momentum needs both; "
            f"set scheduler.{missing}_momentum={present}, or {MOMENTUM_OFF} to leave momentum alone"
        )
    for key, value in (("min_momentum", min_momentum), ("max_momentum", max_momentum)):
        if not 0 <= value < 1:
            raise UserError(f"scheduler.{key}={value} is outside [0, 1); set scheduler.{key}=0.9")
    if min_momentum > max_momentum:
        raise UserError(
            f"scheduler.min_momentum={min_momentum} is above scheduler.max_momentum={max_momentum}; "
            f"set scheduler.min_momentum={max_momentum} scheduler.max_momentum={min_momentum}"
        )


def check_fraction(key: str, value: float, example: float, *, zero_allowed: bool = True) -> None:
    """Raise UserError unless `scheduler.<key>` is a fraction in [0, 1], or (0, 1] if 0 cannot work."""
    if not (0 <= value <= 1) or (value == 0 and not zero_allowed):
        span = "[0, 1]" if zero_allowed else "(0, 1]"
        raise UserError(f"scheduler.{key}={value} must be in {span}; set scheduler.{key}={example}")
