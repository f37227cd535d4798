"""Seeds for global random states, as a pure function of what is about to be drawn."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

_64_BITS = (1 << 64) - 1


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
