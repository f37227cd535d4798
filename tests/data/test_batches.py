"""The plan and the batches against a slow, readable reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tempo.data.augment import Augment
from tempo.data.batches import BatchPlan, EvalBatches, TrainBatches
from tempo.data.images import ImageData
from tempo.errors import UserError

AUGMENT = Augment(crop_padding=4, flip=True, cutout=3)
WORD = 2**64


def philox(counter: int, key: tuple[int, int]) -> list[int]:
    """Philox4x64-10 as published (Salmon et al. 2011), on Python's integers."""
    c = [counter >> 64 * word & WORD - 1 for word in range(4)]
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [b >> 64 ^ c[1] ^ k0, b % WORD, a >> 64 ^ c[3] ^ k1, a % WORD]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % WORD, (k1 + 0xBB67AE8584CAA73B) % WORD
    return c


def words(seed: int, stream: int, epoch: int, n: int) -> list[int]:
    """The first n words of a stream; numpy counts up before its first block."""
    found: list[int] = []
    while len(found) < n:
        found += philox((epoch << 192) + len(found) // 4 + 1, (seed % WORD, stream))
    return found[:n]


def reference_batch(n: int, total: int, seed: int, step: int) -> list[int]:
    """The global batch of a step."""
    steps_per_epoch = n // total
    epoch, position = step // steps_per_epoch, step % steps_per_epoch
    key = words(seed, 0, epoch, n)
    bits = (n - 1).bit_length()
    return sorted(range(n), key=lambda index: (key[index] >> bits, index))[
        position * total : (position + 1) * total
    ]


def reference_draw(word: int, padding: int, height: int, width: int) -> list[int]:
    """One image's draw: the digits of its word in mixed radix."""
    radixes = (2, 2 * padding + 1, 2 * padding + 1, height, width)
    digits = []
    for radix in radixes:
        digits.append(word % radix)
        word //= radix
    flip, row, column, cutout_row, cutout_column = digits
    return [row, column, flip, cutout_row, cutout_column]


def numbered(n: int, height: int = 4, width: int = 5) -> ImageData:
    """Images that show their own number, which is their label too."""
    images = (torch.arange(n, dtype=torch.int64)[:, None, None, None] % 256).to(torch.uint8)
    return ImageData(images.expand(n, 3, height, width).contiguous(), torch.arange(n), ("one",), "numbered")


def batches(plan: BatchPlan, start: int = 0, last: int | None = None, per_chunk: int = 3) -> TrainBatches:
    return TrainBatches(
        data=numbered(plan.n),
        plan=plan,
        augment=AUGMENT,
        steps_per_chunk=per_chunk,
        next_step=lambda: start,
        last_step=last,
    )


@settings(deadline=None, max_examples=40)
@given(
    per_device=st.integers(1, 5),
    world_size=st.integers(1, 4),
    accumulate=st.integers(1, 3),
    extra=st.integers(0, 40),
    seed=st.integers(0, 2**32),
    step=st.integers(0, 30),
)
def test_every_layout_gives_the_reference_batch(
    per_device: int, world_size: int, accumulate: int, extra: int, seed: int, step: int
) -> None:
    total = per_device * world_size * accumulate
    n = total + extra
    expected = reference_batch(n, total, seed, step)
    share = per_device * accumulate
    for rank in range(world_size):
        plan = BatchPlan(n, total, seed, world_size, rank, accumulate)
        assert plan.per_device == per_device
        assert plan.positions(step).tolist() == expected[rank * share : (rank + 1) * share]


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 200), total=st.integers(1, 200), seed=st.integers(0, 2**32), epoch=st.integers(0, 5))
def test_an_epoch_has_each_image_at_most_once(n: int, total: int, seed: int, epoch: int) -> None:
    if total > n:
        with pytest.raises(UserError, match=f"more than the {n} training images"):
            BatchPlan(n, total, seed)
        return
    plan = BatchPlan(n, total, seed)
    first = epoch * plan.steps_per_epoch
    seen = np.concatenate([plan.positions(first + step) for step in range(plan.steps_per_epoch)])
    assert len(seen) == len(set(seen.tolist())) == n - n % total
    assert set(seen.tolist()) <= set(range(n))


def test_seeds_and_epochs_differ() -> None:
    orders = {tuple(BatchPlan(50, 50, seed).positions(step)) for seed in (0, 1, 2) for step in (0, 1, 2)}
    assert len(orders) == 9
    assert orders >= {tuple(reference_batch(50, 50, 0, 0)), tuple(reference_batch(50, 50, 2, 2))}


def test_images_left_out_differ_from_epoch_to_epoch() -> None:
    left_out = [frozenset(range(20)) - set(BatchPlan(20, 15, 0).positions(epoch)) for epoch in range(4)]
    assert len(set(left_out)) == 4


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)])
def test_chunks_of_any_layout_hold_the_same_images_and_draws(world_size: int, accumulate: int) -> None:
    n, total, seed, epoch = 150, 32, 7, 2
    steps = n // total
    ranks = [BatchPlan(n, total, seed, world_size, rank, accumulate) for rank in range(world_size)]
    # [rank][step] -> numbers, draws
    parts: list[list[tuple[list[int], list[list[int]]]]] = []
    for plan in ranks:
        parts.append([])
        for chunk in batches(plan, start=epoch * steps):
            assert (chunk.images[:, 0, 0, 0] == chunk.labels).all()
            for labels, draws in zip(
                chunk.labels.chunk(chunk.steps), chunk.draws.chunk(chunk.steps), strict=True
            ):
                parts[-1].append((labels.tolist(), draws.tolist()))
    raw = words(seed, 1, epoch, n)
    for step in range(steps):
        labels = [label for rank in parts for label in rank[step][0]]
        draws = [draw for rank in parts for draw in rank[step][1]]
        assert labels == reference_batch(n, total, seed, epoch * steps + step)
        places = range(step * total, (step + 1) * total)
        assert draws == [reference_draw(raw[place], 4, 4, 5) for place in places]


def test_chunks_end_at_multiples_counted_from_the_epochs_start() -> None:
    plan = BatchPlan(80, 8, 0)
    assert [chunk.steps for chunk in batches(plan)] == [3, 3, 3, 1]
    assert len(batches(plan)) == 4
    assert [chunk.steps for chunk in batches(plan, start=14)] == [2, 3, 1]
    assert [chunk.steps for chunk in batches(plan, start=10, last=14)] == [3, 1]
    assert [chunk.steps for chunk in batches(plan, start=14, last=14)] == []
    assert [chunk.steps for chunk in batches(plan, start=10, last=1000)] == [3, 3, 3, 1]


def test_resuming_in_mid_epoch_continues_the_same_epoch() -> None:
    plan = BatchPlan(80, 8, 3)
    whole = torch.cat([chunk.labels for chunk in batches(plan, start=10)])
    rest = torch.cat([chunk.labels for chunk in batches(plan, start=15, per_chunk=4)])
    assert torch.equal(whole[5 * 8 :], rest)


def test_global_random_state_is_neither_read_nor_moved() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = [chunk.labels.tolist() for chunk in batches(BatchPlan(60, 7, 1))]
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    torch.manual_seed(999)
    assert first == [chunk.labels.tolist() for chunk in batches(BatchPlan(60, 7, 1))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 100, "total_batch_size": 10, "world_size": 3}, "data.total_batch_size=9"),
        ({"n": 100, "total_batch_size": 2, "world_size": 3}, "data.total_batch_size=3"),
        ({"n": 100, "total_batch_size": 128, "accumulate": 8}, "data.total_batch_size=96"),
    ],
)
def test_a_batch_that_cannot_be_names_one_that_can(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        BatchPlan(seed=0, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [1, 6, 101])
def test_evaluation_sees_each_image_once_over_all_ranks(world_size: int, n: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        loader = EvalBatches(data=numbered(n), batch_size=4, world_size=world_size, rank=rank)
        found = list(loader)
        assert len(found) == len(loader)
        assert all(1 <= len(labels) <= 4 for _, labels in found)
        for images, labels in found:
            assert images.is_contiguous()
            assert torch.equal(images[:, 0, 0, 0].long(), labels)
        numbers = [number for _, labels in found for number in labels.tolist()]
        assert numbers == list(range(rank, n, world_size))
        seen += numbers
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize("epoch", [0, 7])
def test_alternating_flips_show_each_image_both_ways_in_two_epochs(epoch: int) -> None:
    """And in the first epoch each is flipped as its bit of the stream says."""
    plan = BatchPlan(n=30, total_batch_size=10, seed=3)
    augment = Augment(crop_padding=1, flip="alternate", cutout=0)

    def flips(of_epoch: int) -> dict[int, int]:
        draws = plan.epoch_draws(of_epoch, augment, 4, 5)
        return dict(zip(plan.epoch_positions(of_epoch).tolist(), draws[:, 2].tolist(), strict=True))

    now, then = flips(epoch), flips(epoch + 1)
    assert all(now[image] + then[image] == 1 for image in range(30))
    expected = [(word + epoch) % 2 for word in words(3, 2, 0, 30)]
    assert [now[image] for image in range(30)] == expected
    assert 5 < sum(expected) < 25


def test_alternating_flips_leave_the_crops_as_they_are() -> None:
    plan = BatchPlan(n=30, total_batch_size=10, seed=3)
    drawn = [
        plan.epoch_draws(4, Augment(crop_padding=1, flip=flip, cutout=2), 4, 5)[:, [0, 1, 3, 4]]
        for flip in (False, True, "alternate")
    ]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] == drawn[2]).all()
