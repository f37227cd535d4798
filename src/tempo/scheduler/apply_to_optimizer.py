"""Write a schedule's values into a torch optimizer."""

from __future__ import annotations

from typing import Any

import torch

from tempo.scheduler.schedule import Schedule, check_momentum


class ScheduleAdapter:
    """Sets learning rate and momentum for each optimizer step of a run of `total_steps`.

    Call `apply(step)` before EVERY `optimizer.step()`, with the number of steps taken so far in the whole
    run. There is no state to save: a resumed run continues to count. `steps_applied` counts the calls, to be
    compared with the number of optimizer steps.

    The rate goes to `lr` of each parameter group, times the group's `lr_scale` if it has one. Momentum goes
    to `momentum`, or to beta1 (`betas[0]`) for the Adam family. If the optimizer starts with
    `dampening = momentum`, the damped form of SGD, both change together.

    Raises:
        UserError: the schedule changes the momentum of an optimizer without (see `check_momentum`).
        ValueError: `total_steps` is below 1.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Schedule, total_steps: int) -> None:
        if total_steps < 1:
            raise ValueError(f"a schedule needs at least one step, not {total_steps}")
        self.optimizer = optimizer
        self.schedule = schedule
        self.total_steps = total_steps
        self.steps_applied = 0
        # `defaults`, not the groups: those of a resumed run may be at a momentum of 0 on the curve.
        defaults = optimizer.defaults
        momentum = _momentum(defaults)
        check_momentum(schedule, type(optimizer).__name__, momentum)
        self._damped = bool(momentum) and defaults.get("dampening", 0.0) == momentum

    def apply(self, step: int) -> dict[str, float]:
        """Write and return the values for `step` in `[0, total_steps)`; ValueError outside the run."""
        values = self.schedule.at(step, self.total_steps)
        lr = values["lr"]
        momentum = values.get("momentum")
        # Not kept between calls: load_state_dict replaces the group dictionaries.
        for group in self.optimizer.param_groups:
            _write(group, "lr", lr * group["lr_scale"] if "lr_scale" in group else lr)
            if momentum is None:
                continue
            if "momentum" in group:
                _write(group, "momentum", momentum)
                if self._damped:
                    _write(group, "dampening", momentum)
            else:
                group["betas"] = (momentum, *group["betas"][1:])
        self.steps_applied += 1
        return values


def _momentum(settings: dict[str, Any]) -> float | None:
    """Return momentum or beta1, or None if there is neither."""
    if "momentum" in settings:
        return float(settings["momentum"])
    return float(settings["betas"][0]) if "betas" in settings else None


def _write(group: dict[str, Any], key: str, value: float) -> None:
    """Set a value; a tensor is filled in place, because a captured CUDA graph reads its address."""
    if isinstance(group[key], torch.Tensor):
        group[key].fill_(value)
    else:
        group[key] = value
