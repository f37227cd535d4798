"""Linear fall to 0, with an optional linear warm-up."""

from __future__ import annotations

from dataclasses import dataclass

from tempo.scheduler.bounds import check_fraction, check_rate
from tempo.scheduler.schedule import Schedule, linear, progress


@dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    """A line from `lr` to `final_fraction * lr`, reached one step after the run.

    So a fall to 0 spends no step on a rate of 0: without warm-up, `lr(step) = lr (1 - step / total_steps)`.
    The rate rises linearly in the first `warmup_fraction` of the run, `lr (step + 1) / (warmup_steps + 1)`
    with `warmup_steps = warmup_fraction total_steps`. Momentum is left alone. Raises UserError for a rate
    that is not above 0 and for fractions outside [0, 1].
    """

    lr: float
    warmup_fraction: float = 0.0
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        check_rate("lr", self.lr)
        check_fraction("warmup_fraction", self.warmup_fraction, 0.05)
        check_fraction("final_fraction", self.final_fraction, 0.0)

    def at(self, step: int, total_steps: int) -> dict[str, float]:
        """Return the rate of the warm-up or of the fall; ValueError outside the run."""
        progress(step, total_steps)
        warmup_steps = self.warmup_fraction * total_steps
        if step < warmup_steps:
            return {"lr": self.lr * (step + 1) / (warmup_steps + 1)}
        t = (step - warmup_steps) / (total_steps - warmup_steps)
        return {"lr": linear(self.lr, self.final_fraction * self.lr, t)}
