"""Items whose random draws are a function of seed, epoch and index, read by any number of workers."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tempo.data.batches import BatchPlan
from tempo.data.keyed_loader import EVALUATION, KeyedDataset, KeyedLoader, training_keys

_ITEMS, _BATCH = 12, 4


class Drawn(Dataset[Tensor]):
    """Items that draw from torch, numpy and `random`, and begin with their index."""

    def __len__(self) -> int:
        return _ITEMS

    def __getitem__(self, index: int) -> Tensor:
        from_numpy = np.random.random()  # noqa: NPY002 - the global state is what is tested
        return torch.tensor([index, float(torch.rand(())), from_numpy, random.random()], dtype=torch.float64)


def epoch_of(plan: BatchPlan, epoch: int, num_workers: int = 0, skipped: int = 0) -> Tensor:
    """Return the items of an epoch, `[items, 4]`, from its batch number `skipped` on."""
    first = epoch * plan.steps_per_epoch + skipped
    loader = KeyedLoader(
        DataLoader(Drawn(), batch_size=_BATCH),
        batches=lambda: training_keys(plan, first, None),
        length=plan.steps_per_epoch - skipped,
        seed=plan.seed,
        split="training",
        num_workers=num_workers,
    )
    return torch.cat(list(loader))


def plan_of(seed: int = 0, **ranks: int) -> BatchPlan:
    return BatchPlan(n=_ITEMS, total_batch_size=_BATCH, seed=seed, **ranks)


def test_what_an_item_draws_differs_between_seeds_epochs_and_indices() -> None:
    keys = [(0, 3), (1, 3), (EVALUATION, 3), (0, 4)]
    found = [KeyedDataset(Drawn(), seed, "training")[key] for seed in (0, 1) for key in keys]
    for first, second in combinations(found, 2):
        assert not first[1:].eq(second[1:]).any()
    again = [KeyedDataset(Drawn(), seed, "training")[key] for seed in (0, 1) for key in keys]
    assert torch.equal(torch.stack(found), torch.stack(again))


def test_an_epoch_has_each_item_once_in_an_order_of_its_own() -> None:
    epochs = [epoch_of(plan_of(), epoch)[:, 0].tolist() for epoch in (0, 1)]
    assert epochs[0] != epochs[1]
    assert all(sorted(epoch) == list(range(_ITEMS)) for epoch in epochs)


def test_workers_and_a_later_start_change_no_item() -> None:
    whole = epoch_of(plan_of(), 1)
    assert torch.equal(epoch_of(plan_of(), 1, num_workers=2), whole)
    assert torch.equal(epoch_of(plan_of(), 1, skipped=1), whole[_BATCH:])


def test_two_ranks_share_each_batch() -> None:
    whole = epoch_of(plan_of(), 0).view(-1, 2, _BATCH // 2, 4)
    for rank in (0, 1):
        assert torch.equal(epoch_of(plan_of(world_size=2, rank=rank), 0), whole[:, rank].reshape(-1, 4))


def test_an_item_that_cannot_be_read_is_named() -> None:
    class Damaged(Drawn):
        def __getitem__(self, index: int) -> Tensor:
            raise ValueError("no such page")

    failed = KeyedDataset(Damaged(), 0, "validation")[0, 3]
    assert failed.message == "item 3 of the validation set (Damaged) cannot be read: ValueError: no such page"
