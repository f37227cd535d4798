"""A constant learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from tempo.scheduler.bounds import check_rate
from tempo.scheduler.schedule import Schedule, progress


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """`lr(step) = lr`, momentum left alone. Raises UserError for a rate that is not above 0."""

    lr: float

    def __post_init__(self) -> None:
        check_rate("lr", self.lr)

    def at(self, step: int, total_steps: int) -> dict[str, float]:
        """Return the rate of every step; ValueError outside the run."""
        progress(step, total_steps)
        return {"lr": float(self.lr)}
