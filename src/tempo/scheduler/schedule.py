"""The interface of a schedule, and the curves that schedules consist of.

Steps count from 0. A curve has its start value at step 0 and its end value at the last step,
`total_steps - 1`. A run of one step has the start value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from tempo.errors import UserError

Curve = Callable[[float, float, float], float]


MOMENTUM_OFF = "scheduler.min_momentum=null scheduler.max_momentum=null"
"""Overrides with which no schedule changes momentum."""


class Schedule(Protocol):
    """Learning rate and momentum as a pure function of the optimizer step.

    A schedule is a frozen dataclass of plain values. One that can change momentum takes its bounds as
    `min_momentum` and `max_momentum`, both None to leave it alone.
    """

    @property
    def moves_momentum(self) -> bool:
        """Whether `at` returns a momentum."""
        return getattr(self, "min_momentum", None) is not None

    @property
    def least_steps(self) -> int:
        """Fewest steps of a run that has the whole curve."""
        return 1

    def at(self, step: int, total_steps: int) -> dict[str, float]:
        """Return `{"lr": .., "momentum": ..}` for `step` in `[0, total_steps)`; momentum only if it changes.

        Raises ValueError for a step outside the run.
        """


def check_momentum(schedule: Schedule, optimizer: str, momentum: float | None) -> None:
    """Raise UserError if a schedule changes the momentum of an optimizer that has none (None), or 0.

    Switching momentum on behind the user's back would change the algorithm and multiply its step size.
    """
    if schedule.moves_momentum and not momentum:
        has = "has none" if momentum is None else "has momentum 0"
        raise UserError(
            f"the schedule changes momentum, but the optimizer {optimizer} {has}; "
            f"set {MOMENTUM_OFF}, or optimizer=momentum"
        )


def progress(step: int, total_steps: int) -> float:
    """Return `step / (total_steps - 1)`: 0 at the first step, 1 at the last one.

    Raises ValueError for a step outside `[0, total_steps)`.
    """
    if not 0 <= step < total_steps:
        raise ValueError(f"step {step} is outside a run of {total_steps} steps")
    # A run of one step has no length to divide by.
    return step / (total_steps - 1) if step else 0.0


def linear(start: float, end: float, t: float) -> float:
    """Return `(1 - t) start + t end` for t in [0, 1]; exact at both ends."""
    return (1.0 - t) * start + t * end


def cosine(start: float, end: float, t: float) -> float:
    """Return `end + (start - end) (1 + cos(pi t)) / 2` for t in [0, 1] (arXiv:1608.03983)."""
    return linear(start, end, (1.0 - math.cos(math.pi * t)) / 2.0)


def exponential(start: float, end: float, t: float) -> float:
    """Return `start^(1 - t) end^t` for t in [0, 1], a line on a log axis; both ends are above 0."""
    return start ** (1.0 - t) * end**t
