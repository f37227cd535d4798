"""The seed of what is random inside a network, as a function of the step."""

from __future__ import annotations

_MASK = (1 << 64) - 1


def step_seed(seed: int, rank: int, step: int) -> int:
    """63 bits for what is random inside the network at one step of one rank.

    A round of SplitMix64 (Steele, Lea & Flood 2014) for each number: neighbours share nothing.
    """
    state = 0
    for number in (seed, rank, step):
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
