"""Seeds for global random states, as a pure function of what is about to be drawn."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import numpy as np
import torch

_64_BITS = (1 << 64) - 1
# Streams of random numbers: the third of the numbers (seed, rank, stream, ..) that `mixed_seed` gets.
TRAINED_STEP, EVALUATION_START, TRAINED_BATCH, EVALUATED_BATCH = range(4)


def mixed_seed(*numbers: int) -> int:
    """Return a 63-bit seed for a tuple of integers, such as (seed, rank, step).

    One round of SplitMix64 (Steele, Lea & Flood 2014) per number makes neighbouring tuples unrelated.
    """
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _64_BITS
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _64_BITS
        state ^= state >> 31
    return state >> 1


def seed_global_generators(seed: int) -> None:
    """Seed the global generators of torch (on the CPU), numpy and Python's `random`."""
    # torch.manual_seed also visits every kind of device, which takes longer than reading a small item.
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002 - users' code draws from the global state
    random.seed(seed)


@contextlib.contextmanager
def global_generators_seeded(seed: int) -> Iterator[None]:
    """Seed the global generators during the block, and restore their states after it.

    Users' data sets draw from them when they are split, by `random_split` for example, and must draw the same
    for each seed of a run, after a resume and when a run is evaluated.
    """
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    seed_global_generators(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])


class SeededBatches:
    """The batches of a loader; before each is given out, the global generators are seeded.

    So what is drawn while a batch is transferred, or in an evaluation, depends neither on the number of
    workers nor on where a run was resumed.

    Args:
        batches: the loader.
        numbers: returns the numbers of `mixed_seed` for the next batch; the last one counts the batches.
    """

    def __init__(self, batches: Iterable[Any], numbers: Callable[[], tuple[int, ...]]) -> None:
        self.batches, self.numbers = batches, numbers

    def __len__(self) -> int:
        """Number of batches of a whole iteration."""
        if not isinstance(self.batches, Sized):
            raise TypeError("this loader has no length")
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        *kind, first = self.numbers()
        for number, batch in enumerate(self.batches, first):
            seed = mixed_seed(*kind, number)
            seed_global_generators(seed)
            if torch.cuda.is_initialized():
                torch.cuda.manual_seed(seed)
            yield batch
