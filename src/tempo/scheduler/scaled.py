"""A schedule whose learning rate follows the batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tempo.scheduler.schedule import Schedule


def scale_factor(*, rule: str, total_batch_size: int, reference_batch: int) -> float:
    """What the learning rate is multiplied by: 1 (none), TBS / reference (linear), or its square root (sqrt).

    Sources: linear, Goyal et al. 2017, arXiv:1706.02677; square root, Krizhevsky 2014, arXiv:1404.5997.
    """
    ratio = total_batch_size / reference_batch
    return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[rule]


@dataclass(frozen=True)
class Scaled:
    """`factor` times the learning rate of another schedule; its momentum as it is."""

    schedule: Schedule
    factor: float

    @property
    def moves_momentum(self) -> bool:
        """Whether the other schedule does."""
        return self.schedule.moves_momentum

    def at(self, step: int, total_steps: int) -> dict[str, float]:
        """Values of the other schedule, the rate scaled."""
        values = self.schedule.at(step, total_steps)
        return {**values, "lr": self.factor * values["lr"]}
