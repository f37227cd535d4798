"""Losses and accuracies of the last steps, kept on the device until they are flushed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """Mean over the optimizer steps up to and including number `steps_done`."""

    steps_done: int
    loss: float
    accuracy: float


class StepWindow:
    """Collects `[steps]` tensors of loss and accuracy; `flush` brings them to the host in one transfer.

    Intervals end at multiples of `every_n_steps`, even within a chunk, and at the end of an epoch. The steps
    of an unfinished interval wait for the next flush.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._parts: list[Tensor] = []
        self._first_step = 0
        self._steps = 0
        self.rest_loss: list[float] = []
        self.rest_accuracy: list[float] = []

    def add(self, *, first_step: int, losses: Tensor, accuracies: Tensor) -> None:
        """Keep two `[steps]` tensors, for the steps from `first_step` on, on their device."""
        if not self._parts:
            self._first_step = first_step
        self._parts.append(torch.stack([losses, accuracies]))
        self._steps += len(losses)

    @property
    def due(self) -> bool:
        """Whether an interval has ended since the last flush."""
        return len(self.rest_loss) + self._steps >= self.every_n_steps

    def flush(
        self, reduce: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[int, list[float], list[Interval]]:
        """Return the first step and all losses since the last flush, and the intervals they complete.

        `reduce` averages a `[2, steps]` tensor over the ranks.
        """
        if not self._parts:
            return self._first_step, [], []
        values = torch.cat(self._parts, dim=1)
        losses, accuracies = (reduce(values) if reduce else values).double().cpu().tolist()
        first_step, self._parts, self._steps = self._first_step, [], 0
        intervals = []
        for offset, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
            self.rest_loss.append(loss)
            self.rest_accuracy.append(accuracy)
            if (first_step + offset + 1) % self.every_n_steps == 0:
                intervals.append(self._close(first_step + offset + 1))
        return first_step, losses, intervals

    def state_dict(self) -> dict[str, list[float]]:
        """Return the flushed part of the unfinished interval, as plain values."""
        return {"loss": list(self.rest_loss), "accuracy": list(self.rest_accuracy)}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Restore the unfinished interval."""
        self.rest_loss = [float(loss) for loss in state["loss"]]
        self.rest_accuracy = [float(accuracy) for accuracy in state["accuracy"]]

    def close(self, steps_done: int) -> Interval | None:
        """Return the interval that an epoch's end cuts short; None if there is none."""
        return self._close(steps_done) if self.rest_loss else None

    def _close(self, steps_done: int) -> Interval:
        n = len(self.rest_loss)
        interval = Interval(steps_done, sum(self.rest_loss) / n, sum(self.rest_accuracy) / n)
        self.rest_loss, self.rest_accuracy = [], []
        return interval
