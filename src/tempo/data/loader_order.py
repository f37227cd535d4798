"""Read the order, the items and the batches of a user's DataLoader."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from tempo.errors import UserError

_REPLACED_SAMPLERS = (SequentialSampler, RandomSampler, DistributedSampler)
"""Samplers that visit each item once: the run's own order does the same."""


def listed(loaders: Any) -> list[Any]:
    """Return the loaders that a hook of a data module returned: one, several or none."""
    if loaders is None:
        return []
    if isinstance(loaders, Mapping):
        return list(loaders.values())
    return list(loaders) if isinstance(loaders, (list, tuple)) else [loaders]


class Together:
    """Several training loaders as one, as in Lightning: shorter ones start again until the longest ends."""

    def __init__(self, loaders: Any) -> None:
        self.loaders = CombinedLoader(loaders, "max_size_cycle")

    def __len__(self) -> int:
        """Number of batches."""
        return max(map(len, self.loaders.flattened))

    def __iter__(self) -> Iterator[Any]:
        for batch, _, _ in self.loaders:
            yield batch


def together(loaders: Any) -> Any:
    """Return one loader for what a hook of a data module returned."""
    return Together(loaders) if isinstance(loaders, (Mapping, list, tuple)) else loaders


def batch_size_of(loaders: Any) -> int | None:
    """Return the items per batch of one training loader, or of several together; None if unknown."""
    sizes = [getattr(loader, "batch_size", None) for loader in listed(loaders)]
    return sum(sizes) if sizes and None not in sizes else None  # type: ignore[arg-type]


def length_of(loader: Any, most: int | None, name: str) -> int:
    """Return the batches of an epoch of a training loader that is used as it is, at most `most`."""
    try:
        return len(loader) if most is None else min(most, len(loader))
    except TypeError:
        if most is None:
            raise UserError(
                f"data: the training loader of {name} has no length; set "
                "trainer.limit_train_steps=<steps per epoch>"
            ) from None
        return most


def is_stateful_stream(loader: Any) -> bool:
    """Whether a loader is a stream that can say and take back its position."""
    is_stream = not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset)
    return is_stream and all(hasattr(loader, name) for name in ("state_dict", "load_state_dict", "__len__"))


def check_order(loader: Any, name: str) -> None:
    """Raise UserError unless the items of a training loader can be visited in the run's own order."""
    remedy = "set data.resume=epoch to use the loader as it is, and save at the end of each epoch only"
    if not isinstance(loader, DataLoader):
        raise UserError(
            f"data: train_dataloader() of {name} returns a {type(loader).__name__}, not a DataLoader, so its "
            f"batches cannot be repeated when a run is resumed; return one DataLoader, or {remedy}"
        )
    if isinstance(loader.dataset, IterableDataset):
        raise UserError(
            f"data: the training set of {name} is an IterableDataset without state_dict and length, so its "
            f"batches cannot be repeated when a run is resumed; {remedy}"
        )
    sampler = loader.sampler
    own_batches = type(loader.batch_sampler) is not BatchSampler
    if own_batches or not isinstance(sampler, _REPLACED_SAMPLERS) or _draws_with_replacement(sampler):
        kind = type(loader.batch_sampler if own_batches else sampler).__name__
        if loader.batch_sampler is None:
            kind = "batch_size=None"
        raise UserError(
            f"data: the training loader of {name} has its own order ({kind}), which the run's order would "
            f"replace; leave the sampler out, or {remedy}"
        )
    if len(loader.dataset) == 0:  # type: ignore[arg-type]
        raise UserError(f"data: the training set of {name} has no items; choose another data=...")


def _draws_with_replacement(sampler: Any) -> bool:
    if not isinstance(sampler, RandomSampler):
        return False
    return sampler.replacement or sampler.num_samples != len(sampler.data_source)


def with_dataset(loader: DataLoader[Any], dataset: Any, batch_size: int | None = None) -> DataLoader[Any]:
    """Return a loader of another dataset with the same collate function, workers and batch size."""
    if dataset is loader.dataset and batch_size is None:
        return loader
    workers = loader.num_workers
    return DataLoader(
        dataset,
        batch_size=batch_size or loader.batch_size or 1,
        collate_fn=loader.collate_fn,
        num_workers=workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context if workers else None,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def with_datasets(loaders: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    """Return loaders of changed datasets; a stream stays as it is."""
    return [
        with_dataset(loader, change(loader.dataset)) if isinstance(loader, DataLoader) else loader
        for loader in loaders
    ]


def batches_of(loader: DataLoader[Any]) -> Sequence[Sequence[int]]:
    """Return the indices of each batch of an evaluation: every item once, unless a sampler chooses."""
    if loader.batch_size is None and loader.batch_sampler is None:  # each item is a batch
        return [[index] for index in _indices_of(loader)]
    if type(loader.batch_sampler) is not BatchSampler:
        return [list(batch) for batch in copy.copy(loader.batch_sampler) or ()]
    indices, size = _indices_of(loader), loader.batch_size or 1
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _indices_of(loader: DataLoader[Any]) -> list[int]:
    whole = isinstance(loader.sampler, _REPLACED_SAMPLERS)
    return list(range(len(loader.dataset)) if whole else loader.sampler)  # type: ignore[arg-type]


def at_least(batches: Sequence[Sequence[int]], count: int) -> list[Sequence[int]]:
    """Return the same indices in `count` batches or more, if there are as many: one for each process."""
    parts = list(batches)
    while len(parts) < count and (longest := max(parts, key=len, default=())) and len(longest) > 1:
        where, half = parts.index(longest), len(longest) // 2
        parts[where : where + 1] = [longest[:half], longest[half:]]
    return parts


def count_items(loader: Any) -> int:
    """Return the number of items that an evaluation reads; 0 if it is unknown."""
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        return sum(map(len, batches_of(loader)))
    return 0
