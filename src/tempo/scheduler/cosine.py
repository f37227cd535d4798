"""Cosine decay, with an optional linear warm-up."""

from __future__ import annotations

from dataclasses import dataclass

from tempo.scheduler.bounds import check_fraction, check_rate
from tempo.scheduler.schedule import Schedule, cosine, progress


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from `lr` to `final_fraction * lr` (SGDR without restarts, arXiv:1608.03983, eq. 5).

    The rate rises linearly in the first `warmup_fraction` of the run, `lr (step + 1) / (warmup_steps + 1)`
    with `warmup_steps = warmup_fraction (total_steps - 1)`. The line starts from 0 one step before the run,
    so that no step is spent on a rate of 0. The last step has exactly `final_fraction * lr`. Momentum is left
    alone. Raises UserError for a rate that is not above 0 and for fractions outside [0, 1].
    """

    lr: float
    warmup_fraction: float = 0.0
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        check_rate("lr", self.lr)
        check_fraction("warmup_fraction", self.warmup_fraction, 0.05)
        check_fraction("final_fraction", self.final_fraction, 0.0)

    def at(self, step: int, total_steps: int) -> dict[str, float]:
        """Return the rate of the warm-up or of the decay; ValueError outside the run."""
        done = progress(step, total_steps)
        warmup = self.warmup_fraction
        if done < warmup:
            return {"lr": self.lr * (step + 1) / (warmup * (total_steps - 1) + 1)}
        t = (done - warmup) / (1.0 - warmup) if warmup < 1 else 0.0
        return {"lr": cosine(self.lr, self.final_fraction * self.lr, t)}
