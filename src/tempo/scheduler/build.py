"""Build the schedule of a run from its configuration, and scale its learning rate to the batch size."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tempo.errors import UserError
from tempo.scheduler.schedule import Schedule


@dataclass(frozen=True)
class Scaled(Schedule):
    """Another schedule with `factor` times its learning rate."""

    schedule: Schedule
    factor: float

    @property
    def moves_momentum(self) -> bool:
        """Whether the other schedule returns a momentum."""
        return self.schedule.moves_momentum

    @property
    def least_steps(self) -> int:
        """Fewest steps of the other schedule."""
        return self.schedule.least_steps

    def at(self, step: int, total_steps: int) -> dict[str, float]:
        """Return the values of the other schedule, the rate scaled."""
        values = self.schedule.at(step, total_steps)
        return {**values, "lr": self.factor * values["lr"]}


def build_schedule(node: Mapping[str, Any]) -> Schedule:
    """Return the schedule of a `conf/scheduler` node: `_target_` and its arguments. Imports no torch.

    Raises:
        UserError: there is no such class, or it refuses an argument.
    """
    module, _, name = str(node["_target_"]).rpartition(".")
    try:
        schedule_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"scheduler._target_={node['_target_']} cannot be imported: {error}; "
            "leave scheduler._target_ out and set scheduler=<option of conf/scheduler>"
        ) from error
    arguments = {
        # A schedule is a frozen value, and a list in it could be changed.
        key: tuple(value) if isinstance(value, list) else value
        for key, value in node.items()
        if key != "_target_"
    }
    try:
        schedule: Schedule = schedule_class(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"scheduler: {error}") from error
    return schedule
