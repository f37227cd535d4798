"""Which server holds which parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Placement = Literal["round_robin", "by_size", "sharded"]


def place(sizes: Sequence[int], servers: int, placement: Literal["round_robin", "by_size"]) -> list[int]:
    """Server of each variable of `sizes` (numbers of elements), servers counted from 0.

    `round_robin` deals them out in their order, as TensorFlow does by default; `by_size` gives the largest
    first to the server that holds least (Graham's LPT rule, at most 4/3 of the best balance).
    """
    if placement == "round_robin":
        return [index % servers for index in range(len(sizes))]
    load, owner = [0] * servers, [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda each: -sizes[each]):
        owner[index] = load.index(min(load))
        load[owner[index]] += sizes[index]
    return owner
