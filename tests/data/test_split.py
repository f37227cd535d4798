"""The split: sizes, strata, independence."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tempo.data.images import ImageData
from tempo.data.split import split, split_indices, stratified, unused_indices
from tempo.data.split_and_batch_sizes import split_sizes
from tempo.errors import UserError


def data(labels: list[int]) -> ImageData:
    """Images whose first pixels spell their number."""
    number = torch.arange(len(labels))
    images = torch.stack((number // 256, number % 256), 1).to(torch.uint8).view(-1, 1, 1, 2)
    return ImageData(images, torch.tensor(labels), tuple("abcdef"), "data")


def numbers(part: ImageData | None) -> list[int]:
    if part is None:
        return []
    return (part.images[:, 0, 0, 0].long() * 256 + part.images[:, 0, 0, 1]).tolist()


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_each_class_gives_its_share(labels: list[int], share: float, seed: int) -> None:
    count = int(share * len(labels))
    chosen = stratified(np.array(labels), count, seed).tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) == count
    taken = Counter(labels[index] for index in chosen)
    for label, size in Counter(labels).items():
        assert abs(taken[label] - count * size / len(labels)) < 1


@pytest.mark.parametrize(
    ("val_size", "train_size", "expected"),
    [
        (0.1, None, (900, 100)),
        (250, None, (750, 250)),
        (0, None, (1000, 0)),
        (0.5, 7, (7, 500)),
        (0, 10, (10, 0)),
    ],
)
def test_sizes(val_size: float, train_size: int | None, expected: tuple[int, int]) -> None:
    whole = data([index % 5 for index in range(1000)])
    train, val = split(whole, val_size=val_size, train_size=train_size, split_seed=0)
    assert (len(train), len(val) if val is not None else 0) == expected
    assert not set(numbers(train)) & set(numbers(val))
    for part in (train, val):
        if part is not None:
            assert part.labels.tolist() == [number % 5 for number in numbers(part)]
            counts = torch.bincount(part.labels, minlength=5)
            assert counts.max() - counts.min() <= 1


def test_validation_is_the_same_whatever_is_kept_for_training() -> None:
    labels = [index % 5 for index in range(300)]
    kept = [split(data(labels), val_size=0.2, train_size=size, split_seed=4)[1] for size in (None, 10, 200)]
    assert numbers(kept[0]) == numbers(kept[1]) == numbers(kept[2])


def test_the_seed_decides_and_zero_is_a_seed() -> None:
    labels = [index % 5 for index in range(300)]
    found = {
        tuple(numbers(split(data(labels), val_size=30, train_size=None, split_seed=s)[1]))
        for s in (0, 0, 1, 2)
    }
    assert len(found) == 3


@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 24])
def test_both_parts_lie_in_the_memory_of_the_whole(monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr("tempo.data.images._BLOCK_BYTES", block_bytes)
    whole, copy = (data([index % 7 for index in range(300)]) for _ in range(2))
    before = whole.images.untyped_storage().data_ptr()
    val_indices = stratified(copy.labels.numpy(), 90, 5)
    rest = np.setdiff1d(np.arange(300), val_indices)
    for part, indices in zip(
        split(whole, val_size=90, train_size=None, split_seed=5), (rest, val_indices), strict=True
    ):
        assert part is not None and part.images.untyped_storage().data_ptr() == before
        assert torch.equal(part.images, copy.images[indices])
        assert torch.equal(part.labels, copy.labels[indices])


@pytest.mark.parametrize(("val_size", "train_size"), [(30, None), (30, 50), (0.1, 1), (0, 99), (0, None)])
def test_unused_images_are_in_neither_part(val_size: float, train_size: int | None) -> None:
    labels = [index % 3 for index in range(100)]
    how = {"val_size": val_size, "train_size": train_size, "split_seed": 3}
    unused = unused_indices(data(labels), **how)  # type: ignore[arg-type]
    train, val = split(data(labels), **how)  # type: ignore[arg-type]
    parts = [numbers(train), numbers(val) if val else [], numbers(data(labels).take(unused))]
    assert sorted(itertools.chain(*parts)) == list(range(100))


def test_nothing_to_split_copies_nothing() -> None:
    whole = data([0, 1, 2])
    assert split(whole, val_size=0, train_size=None, split_seed=0) == (whole, None)


@pytest.mark.parametrize(
    ("val_size", "train_size", "key"),
    [(-1, None, "val_size"), (1.5, None, "val_size"), (100, None, "val_size"), (0.001, None, "val_size"),
     (0.1, 91, "train_size"), (0.1, 0, "train_size")],
)  # fmt: skip
def test_impossible_sizes_are_named(val_size: float, train_size: int | None, key: str) -> None:
    with pytest.raises(UserError, match=rf"data\.{key}=.*set") as error:
        split(data([0] * 100), val_size=val_size, train_size=train_size, split_seed=0)
    assert "\n" not in str(error.value)


@given(
    labels=st.lists(st.integers(0, 4), min_size=6, max_size=90),
    folds=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_folds_are_equal_parts_of_the_whole_and_of_each_class(
    labels: list[int], folds: int, seed: int
) -> None:
    array = np.array(labels)
    parts = []
    for fold in range(folds):
        sizes = split_sizes(len(labels), val_size=0.1, train_size=None, folds=folds, fold=fold)
        kept, val = split_indices(array, sizes, seed, folds=folds, fold=fold)
        assert (len(kept), len(val)) == (sizes.train, sizes.val)
        assert sorted([*kept, *val]) == list(range(len(labels)))
        parts.append(val)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    for label in set(labels):
        counts = [int((array[val] == label).sum()) for val in parts]
        assert max(counts) - min(counts) <= 1
