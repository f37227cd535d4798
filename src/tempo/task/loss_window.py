"""Losses and other values of the last steps, kept on the device until they are flushed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """Means over the optimizer steps up to and including number `steps_done`."""

    steps_done: int
    means: dict[str, float]


class StepWindow:
    """Collects values of each step on their device; `flush` brings them to the host in one transfer.

    Intervals end at multiples of `every_n_steps`, even within a chunk, and at the end of an epoch. The steps
    of an unfinished interval wait for the next flush. `names` are the values of a step, the loss first; none
    if the first step decides, by `start`.
    """

    def __init__(self, every_n_steps: int, names: tuple[str, ...] = ("loss", "accuracy")) -> None:
        self.every_n_steps = every_n_steps
        self._parts: list[Tensor] = []
        self._first_step = 0
        self._steps = 0
        self.start(names)

    def start(self, names: tuple[str, ...]) -> None:
        """Set the names of a step's values."""
        self.names = names
        self.rest: dict[str, list[float]] = {name: [] for name in names}
        """Values of the flushed steps of the unfinished interval."""

    @property
    def _rest_steps(self) -> int:
        return max(map(len, self.rest.values()), default=0)

    def add(self, first_step: int, *values: Tensor) -> None:
        """Keep one `[steps]` tensor per name, for the steps from `first_step` on, on their device."""
        if not self._parts:
            self._first_step = first_step
        if values:
            self._parts.append(torch.stack(values))
            self._steps += len(values[0])

    @property
    def due(self) -> bool:
        """Whether an interval has ended since the last flush."""
        return self._rest_steps + self._steps >= self.every_n_steps

    def flush(
        self, reduce: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[int, list[float], list[Interval]]:
        """Return the first step and all losses since the last flush, and the intervals they complete.

        `reduce` averages a `[names, steps]` tensor over the ranks.
        """
        if not self._parts:
            return self._first_step, [], []
        values = torch.cat(self._parts, dim=1)
        columns = (reduce(values) if reduce else values).double().cpu().tolist()
        first_step, self._parts, self._steps = self._first_step, [], 0
        intervals = []
        for offset, of_step in enumerate(zip(*columns, strict=True)):
            for name, value in zip(self.names, of_step, strict=True):
                self.rest[name].append(value)
            if (first_step + offset + 1) % self.every_n_steps == 0:
                intervals.append(self._close(first_step + offset + 1))
        return first_step, columns[0], intervals

    def state_dict(self) -> dict[str, list[float]]:
        """Return the flushed part of the unfinished interval, as plain values."""
        return {name: list(values) for name, values in self.rest.items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Restore the unfinished interval."""
        self.names = tuple(state)
        self.rest = {name: [float(value) for value in values] for name, values in state.items()}

    def close(self, steps_done: int) -> Interval | None:
        """Return the interval that an epoch's end cuts short; None if there is none."""
        return self._close(steps_done) if self._rest_steps else None

    def _close(self, steps_done: int) -> Interval:
        means = {name: sum(values) / len(values) for name, values in self.rest.items()}
        self.rest = {name: [] for name in self.names}
        return Interval(steps_done, means)
