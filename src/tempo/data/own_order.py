"""A training loader that is used as it is: a stream, or one whose order the user decides."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from tempo.data.random_seeds import mixed_seed, seed_global_generators
from tempo.errors import UserError

_KEPT_STATES = 4
"""Trainers fetch a batch or two ahead, so the position to save is not the newest one."""


class OwnOrder:
    """The batches of a user's own loader, as it gives them.

    With `exact`, the loader has `state_dict` and `load_state_dict`, and its position is part of each
    checkpoint. Without, a resumed run begins the epoch again in which it was interrupted. The global
    generators are seeded before each batch, so what the loader draws from them is repeated too.

    Args:
        loader: the user's loader.
        length: batches of an epoch.
        seed: the run's seed.
        exact: whether the loader can say and take back its position.
    """

    def __init__(self, loader: Any, length: int, seed: int, *, exact: bool) -> None:
        self.loader, self.length, self.seed, self.exact = loader, length, seed, exact
        self._states: dict[int, Any] = {}
        """Position of the loader after a number of batches of the whole run."""
        self._resumed: Any = None

    def connect(self, accumulate: int, steps_done: Callable[[], int], last_step: int) -> None:
        """Set the number of batches per optimizer step, and where the run is."""
        self.accumulate, self.steps_done, self.last_step = accumulate, steps_done, last_step
        self.length -= self.length % accumulate  # each step of an epoch has as many batches

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return self.length

    def __iter__(self) -> Iterator[Any]:
        first = self.steps_done() * self.accumulate
        position = first % self.length
        end = min(self.length, position + self.last_step * self.accumulate - first)
        if self._resumed is not None:
            self.loader.load_state_dict(self._resumed)
            self._resumed = None
        seed_global_generators(mixed_seed(self.seed, first // self.length, 0))
        batches = iter(self.loader)
        for number in range(position, end):
            seed_global_generators(mixed_seed(self.seed, first // self.length, number + 1))
            try:
                batch = next(batches)
            except StopIteration:
                raise UserError(
                    f"data: the training loader ended after {number} batches of an epoch, but its length is "
                    f"{self.length}; correct its __len__, or set trainer.limit_train_steps"
                ) from None
            if self.exact:
                done = first - position + number + 1
                self._states[done] = copy.deepcopy(self.loader.state_dict())
                for old in [
                    known for known in self._states if known <= done - _KEPT_STATES - self.accumulate
                ]:
                    del self._states[old]
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's position after the last optimizer step."""
        done = self.steps_done() * self.accumulate
        return {"position": self._states.get(done, self._resumed)} if self.exact else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position at the start of the next iteration."""
        self._resumed = state_dict.get("position")
