"""A DataLoader whose batches are a pure function of (seed, epoch, position), with any number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from tempo.data.batches import BatchPlan
from tempo.data.loader_order import at_least, batches_of
from tempo.data.random_seeds import mixed_seed, seed_global_generators
from tempo.data.transforms import as_tensor, source_of
from tempo.errors import UserError

Key = tuple[int, int]
"""Epoch and index of an item; the epoch of an evaluation is EVALUATION."""
EVALUATION = -1


class FailedItem(NamedTuple):
    """An item that could not be read: what a worker sends instead of a batch."""

    message: str
    remedy: str = "mend or leave out that item"


class KeyedDataset(Dataset[Any]):
    """A map-style dataset that seeds torch, numpy and `random` from (seed, epoch, index) before each item.

    So what an item draws does not depend on the worker that reads it, or on the items read before it. A
    dataset that changes from epoch to epoch by `set_epoch` is told the epoch of each training item, in the
    process that reads it.
    """

    def __init__(self, dataset: Any, seed: int, split: str) -> None:
        self.dataset, self.seed, self.split = dataset, seed, split
        self._epoch = EVALUATION

    def __getitem__(self, key: Key) -> Any:
        """Return the item, or a FailedItem."""
        epoch, index = key
        seed_global_generators(mixed_seed(self.seed, epoch, index))
        try:
            if epoch not in (self._epoch, EVALUATION) and hasattr(
                changing := source_of(self.dataset), "set_epoch"
            ):
                changing.set_epoch(epoch)
            self._epoch = epoch
            return self.dataset[index]
        except UserError as error:
            return FailedItem(*str(error).rsplit("; ", 1))
        except Exception as error:  # noqa: BLE001 - a user's code raises anything
            where = f"item {index} of the {self.split} set ({type(self.dataset).__name__})"
            return FailedItem(f"{where} cannot be read: {type(error).__name__}: {error}")


def sampled_images(dataset: Any, most: int, seed: int) -> list[Tensor]:
    """Return uint8 images, `[1, C, H, W]` each, of up to `most` pairs (image, label), evenly spaced."""
    keyed, count = KeyedDataset(dataset, seed, "training"), len(dataset)
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))
    items = (keyed[EVALUATION, int(index)] for index in chosen)
    images = (as_tensor(item[0]) for item in items if len(item) == 2)
    return [image[None] for image in images if getattr(image, "dtype", None) == torch.uint8]


class CollateWhole:
    """Calls a collate function, unless an item of the batch failed: then returns the first FailedItem.

    With `is_item`, each item is a batch already, and the function converts it.
    """

    def __init__(self, collate: Callable[[Any], Any], *, is_item: bool = False) -> None:
        self.collate, self.is_item = collate, is_item

    def __call__(self, items: list[Any]) -> Any:
        """Return the batch, or a FailedItem."""
        if self.is_item:
            return items[0] if isinstance(items[0], FailedItem) else self.collate(items[0])
        failed = next((item for item in items if isinstance(item, FailedItem)), None)
        if failed is not None:
            return failed
        try:
            return self.collate(items)
        except UserError as error:
            return FailedItem(*str(error).rsplit("; ", 1))
        except Exception as error:  # noqa: BLE001 - items of different shapes, or a user's function
            return FailedItem(
                f"a batch of {len(items)} items cannot be collated: {type(error).__name__}: {error}"
            )


class KeyedLoader:
    """Batches of one split: iterating yields those that `batches()` lists, each a list of keys.

    Args:
        loader: a DataLoader whose dataset, collate function and workers are used, but not its order.
        batches: called at the start of an iteration.
        length: number of batches of a whole iteration.
        seed: the run's seed.
        split: name of the split, for messages.
        num_workers: processes that read items; None for the loader's own number.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        *,
        batches: Callable[[], Iterator[list[Key]]],
        length: int,
        seed: int,
        split: str,
        num_workers: int | None = None,
    ) -> None:
        self.length, self.split = length, split
        workers = loader.num_workers if num_workers is None else num_workers
        self.loader: DataLoader[Any] = DataLoader(
            KeyedDataset(loader.dataset, seed, split),
            batch_sampler=_Calls(batches, length),
            collate_fn=CollateWhole(loader.collate_fn, is_item=loader.batch_sampler is None),
            num_workers=workers,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout if workers else 0,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context if workers else None,
            prefetch_factor=loader.prefetch_factor if workers else None,
            # Workers that stay keep the dataset as it was when they started, so a change of it at an epoch's
            # start would depend on their number; only the user's own loader can ask for that.
            persistent_workers=workers > 0 and loader.persistent_workers,
        )

    def __len__(self) -> int:
        """Number of batches of a whole iteration."""
        return self.length

    def __iter__(self) -> Iterator[Any]:
        try:
            for batch in self.loader:
                if isinstance(batch, FailedItem):
                    raise UserError(f"{batch.message}; {batch.remedy}, then resume the run")
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"a worker that reads the {self.split} set has died ({reason}); if memory was short, set "
                "data.num_workers=0, then resume the run"
            ) from error


class _Calls:
    """A batch sampler that calls a function at the start of each iteration."""

    def __init__(self, batches: Callable[[], Iterator[list[Key]]], length: int) -> None:
        self.batches, self.length = batches, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[Key]]:
        return self.batches()


def training_keys(plan: BatchPlan, next_step: int, last_step: int | None) -> Iterator[list[Key]]:
    """Yield the keys of each micro-batch of this rank, from a step to the end of its epoch or of the run."""
    epoch, position = divmod(next_step, plan.steps_per_epoch)
    order, size = plan.epoch_positions(epoch), plan.per_device
    end = plan.steps_per_epoch
    if last_step is not None:
        end = min(end, last_step - epoch * plan.steps_per_epoch)
    for first in range(position * plan.per_rank, end * plan.per_rank, size):
        yield [(epoch, int(index)) for index in order[first : first + size]]


def evaluation_keys(batches: Sequence[Sequence[int]], plan: BatchPlan) -> Iterator[list[Key]]:
    """Yield the keys of this rank's batches: rank r has the batches r, r + world_size, .. of a split."""
    for batch in batches[plan.rank :: plan.world_size]:
        yield [(EVALUATION, index) for index in batch]


def evaluation_loader(loader: Any, plan: BatchPlan, split: str, num_workers: int | None) -> Any:
    """Return the batches of a user's evaluation loader, shared by the ranks; a stream as it is.

    Raises:
        UserError: there are fewer items than ranks.
    """
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    batches = at_least(batches_of(loader), plan.world_size)
    if len(batches) < plan.world_size:
        raise UserError(
            f"the {split} set has {len(batches)} items, but each of the {plan.world_size} processes needs "
            f"one; set trainer.devices={max(1, len(batches))}"
        )
    return KeyedLoader(
        loader,
        batches=partial(evaluation_keys, batches, plan),
        length=len(batches[plan.rank :: plan.world_size]),
        seed=plan.seed,
        split=split,
        num_workers=num_workers,
    )
