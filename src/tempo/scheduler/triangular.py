"""Cyclical learning rates: repeated linear rise and fall."""

from __future__ import annotations

from dataclasses import dataclass

from tempo.errors import UserError
from tempo.scheduler.bounds import check_momenta, check_rates
from tempo.scheduler.schedule import Schedule, linear, progress


@dataclass(frozen=True, kw_only=True)
class Triangular(Schedule):
    """The triangular policy of L. N. Smith, *Cyclical learning rates* (arXiv:1506.01186).

    With c = cycles * progress, the position in cycles, and h = 1 - |2 (c - floor(c)) - 1|, the height:
    `lr = (1 - h) min_lr + h max_lr` and `momentum = (1 - h) max_momentum + h min_momentum`.
    The run has whole cycles, so its first and last step have `min_lr`. The paper's step size is
    `(total_steps - 1) / (2 cycles)` steps. Momentum is left alone if both of its bounds are None.
    Raises UserError for bounds in the wrong order and for less than one cycle.
    """

    min_lr: float
    max_lr: float
    cycles: int = 4
    min_momentum: float | None = None
    max_momentum: float | None = None

    def __post_init__(self) -> None:
        check_rates(self.min_lr, self.max_lr)
        check_momenta(self.min_momentum, self.max_momentum)
        if self.cycles < 1:
            raise UserError(f"scheduler.cycles={self.cycles} leaves no cycle to run; set scheduler.cycles=1")

    @property
    def least_steps(self) -> int:
        """Number of steps at which each turn of the curve has a step of its own."""
        return 2 * self.cycles + 1

    def at(self, step: int, total_steps: int) -> dict[str, float]:
        """Return the rate, and momentum if it has bounds; ValueError outside the run."""
        position = self.cycles * progress(step, total_steps)
        height = 1.0 - abs(2.0 * (position % 1.0) - 1.0)
        values = {"lr": linear(self.min_lr, self.max_lr, height)}
        if self.min_momentum is not None and self.max_momentum is not None:
            values["momentum"] = linear(self.max_momentum, self.min_momentum, height)
        return values
