"""When a run has diverged: a result like any other, found in the losses of its steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


class Diverged(Exception):  # noqa: N818 - a result, not an error
    """Ends the fit; `step` is the optimizer step (from 0) whose loss showed it."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"diverged at step {step}: loss {loss:.4g}")
        self.step = step
        self.loss = loss


@dataclass
class DivergenceWatch:
    """A loss that is not finite, or whose running mean is far above its best one.

    The bound is `factor x max(best, ln C)`: ln C is the loss of guessing among C classes, so that a loss
    near 0 may rise without alarm. The running mean is `s <- s + (loss - s) / 10`, its best value `best`.
    `factor=None` leaves only NaN and infinity.
    """

    factor: float | None
    num_classes: int
    smoothed: float | None = None
    best: float = math.inf

    def look(self, first_step: int, losses: Sequence[float]) -> None:
        """Read the losses of the steps from `first_step` on; raises `Diverged` at the first out of bounds."""
        for offset, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise Diverged(first_step + offset, loss)
            self.smoothed = loss if self.smoothed is None else self.smoothed + (loss - self.smoothed) / 10
            self.best = min(self.best, self.smoothed)
            bound = max(self.best, math.log(self.num_classes))
            if self.factor is not None and self.smoothed > self.factor * bound:
                raise Diverged(first_step + offset, loss)

    def state_dict(self) -> dict[str, float | None]:
        """Plain values for a checkpoint."""
        return {"smoothed": self.smoothed, "best": self.best}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Inverse of `state_dict`."""
        self.smoothed = state["smoothed"]
        self.best = math.inf if state["best"] is None else state["best"]
