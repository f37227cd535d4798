"""Variables on servers: every one somewhere, and the load as even as the rule promises."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from tempo.distributed.placement import place

# VGG16's variables, in millions of elements: one of them is three quarters of all.
VGG16 = [
    0.002,
    0.037,
    0.074,
    0.147,
    0.295,
    0.59,
    0.59,
    1.18,
    2.36,
    2.36,
    2.36,
    2.36,
    2.36,
    102.76,
    16.78,
    4.1,
]


def loads(sizes: list[int], owners: list[int], servers: int) -> list[int]:
    return [
        sum(size for size, owner in zip(sizes, owners, strict=True) if owner == s) for s in range(servers)
    ]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=7), st.integers(1, 3))
def test_by_size_is_within_four_thirds_of_the_best(sizes: list[int], servers: int) -> None:
    best = min(max(loads(sizes, list(each), servers)) for each in product(range(servers), repeat=len(sizes)))
    assert max(loads(sizes, place(sizes, servers, "by_size"), servers)) <= 4 / 3 * best


def test_round_robin_deals_out_in_order() -> None:
    assert place([5, 5, 5, 5, 5], 2, "round_robin") == [0, 1, 0, 1, 0]


def test_no_placement_of_whole_variables_helps_vgg() -> None:
    sizes = [int(1000 * each) for each in VGG16]
    for placement in ("round_robin", "by_size"):
        assert max(loads(sizes, place(sizes, 4, placement), 4)) > 0.7 * sum(sizes)
