"""A user's LightningDataModule or datasets as the data of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Subset,
)

from tempo.data.batches import BatchPlan
from tempo.data.identity import identity
from tempo.data.keyed_loader import KeyedLoader, evaluation_keys, training_keys
from tempo.data.loader_order import (
    batches_of,
    check_order,
    count_items,
    is_stateful_stream,
    listed,
    with_dataset,
)
from tempo.data.own_order import OwnOrder
from tempo.data.run_data_module import RunDataModule
from tempo.data.split import split_indices, stratified
from tempo.data.split_and_batch_sizes import split_sizes
from tempo.errors import UserError

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """What the configuration says about a user's loaders.

    Attributes:
        seed: the run's seed, which decides the order and what items draw.
        split_seed, val_size, train_size, folds, fold: as for images, used if the data have no validation
            split of their own.
        num_workers: processes that read items; None for the loader's own number.
        resume: "exact" remakes the training loader in the run's own order; "epoch" uses it as it is, so a
            resumed run starts the interrupted epoch again.
        max_train_items, max_eval_items: bounds for debugging, or None.
        steps_per_epoch: length of an epoch of a stream that has no length.
    """

    seed: int
    split_seed: int = 0
    val_size: int | float = 0
    train_size: int | None = None
    folds: int | None = None
    fold: int | None = None
    num_workers: int | None = None
    resume: Literal["exact", "epoch"] = "exact"
    max_train_items: int | None = None
    max_eval_items: int | None = None
    steps_per_epoch: int | None = None


class DatasetsModule(pl.LightningDataModule):
    """The datasets that a function returned, by split, in DataLoaders with default settings."""

    def __init__(self, datasets: Mapping[str, Any], eval_batch_size: int, num_workers: int | None) -> None:
        super().__init__()
        self.datasets = datasets
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers or 0

    def train_dataloader(self) -> DataLoader[Any]:
        """Return a loader whose batch size the run replaces."""
        return DataLoader(self.datasets["train"], num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return a loader of the validation set, or none."""
        return self._evaluation("val")

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return a loader of the test set, or none."""
        return self._evaluation("test")

    def _evaluation(self, split: str) -> DataLoader[Any] | list[Any]:
        if split not in self.datasets:
            return []
        return DataLoader(self.datasets[split], batch_size=self.eval_batch_size, num_workers=self.num_workers)


def datasets_of(returned: Any) -> dict[str, Any] | None:
    """Return the datasets by split that a function under `data` returned; None if it returned none.

    It may return a dataset (train), a pair (train, test), a triple (train, val, test), or a dict with these
    names.
    """
    if isinstance(returned, Mapping):
        found = {split: returned[split] for split in _SPLITS if returned.get(split) is not None}
        return found if "train" in found and len(found) == len(returned) else None
    if isinstance(returned, (tuple, list)) and len(returned) in (2, 3):
        names = ("train", "test") if len(returned) == 2 else _SPLITS
        return {split: dataset for split, dataset in zip(names, returned, strict=True) if dataset is not None}
    return {"train": returned} if hasattr(returned, "__getitem__") and hasattr(returned, "__len__") else None


class LoaderDataModule(RunDataModule):
    """A user's data: each loader is remade in the run's own order, with its collate function and workers.

    `test_dataloader` of the user's module is asked for once, when the state to test is chosen.

    Raises:
        UserError: a loader's order cannot be taken over, or there are no items.
    """

    def __init__(self, source: pl.LightningDataModule, settings: LoaderSettings) -> None:
        super().__init__()
        self.source, self.settings = source, settings
        self.name: str = type(source).__name__
        for hook in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"):
            if _overrides(source, hook):
                setattr(self, hook, getattr(source, hook))
        source.prepare_data()
        source.setup("fit")
        train = source.train_dataloader()
        self.loader_batch_size: int | None = getattr(train, "batch_size", None)
        """Batch size of the user's own training loader."""
        self._val = [] if not _overrides(source, "val_dataloader") else listed(source.val_dataloader())
        self._test: list[Any] | None = None
        self._has_test = _overrides(source, "test_dataloader")
        if isinstance(source, DatasetsModule):
            self._has_test = "test" in source.datasets
        self._train: Any = train
        self.own: OwnOrder | None = None
        if settings.resume == "epoch" or is_stateful_stream(train):
            self._take_as_it_is(train)
        else:
            self._take_items(train)
        self._find_classes()

    def _take_as_it_is(self, train: Any) -> None:
        steps = self.settings.steps_per_epoch
        try:
            length = len(train)
        except TypeError:
            if steps is None:
                raise UserError(
                    f"data: the training loader of {self.name} has no length; set "
                    "trainer.limit_train_steps=<steps per epoch>"
                ) from None
            length = steps
        self.own = OwnOrder(train, length, self.settings.seed, exact=self.settings.resume == "exact")
        self.order = "exact" if self.own.exact else "own"
        self.sizes = {"train": length, "val": 0, "test": 0}  # steps, until the plan is known
        self.sha256, self.identity = "", "none"
        self.sizes["val"] = sum(len(loader.dataset) for loader in self._val if hasattr(loader, "dataset"))

    def _take_items(self, train: Any) -> None:
        settings = self.settings
        check_order(train, self.name)
        dataset = train.dataset
        if self._val and settings.folds is not None:
            raise UserError(
                f"data.folds={settings.folds}: {self.name} has a validation set of its own; set "
                "data.folds=null data.fold=null"
            )
        if not self._val and (settings.val_size or settings.folds is not None):
            dataset, val = _cut(dataset, settings)
            self._val = [with_dataset(train, val, self.loader_batch_size or 1)]
        dataset = _at_most(dataset, settings.max_train_items, settings.split_seed)
        self._val = self._limited(self._val)
        self._train = with_dataset(train, dataset)
        sizes = [count_items(loader) for loader in self._val]
        self.sizes = {"train": len(dataset), "val": sum(sizes), "test": 0}
        self.sha256, self.identity = identity(self.source, dataset)

    def _limited(self, loaders: list[Any]) -> list[Any]:
        """Return loaders with at most `max_eval_items` items each."""
        settings, most = self.settings, self.settings.max_eval_items
        if most is None:
            return loaders
        return [
            with_dataset(loader, _at_most(loader.dataset, most, settings.split_seed))
            if isinstance(loader, DataLoader)
            else loader
            for loader in loaders
        ]

    def _find_classes(self) -> None:
        dataset = getattr(self._train, "dataset", None)
        while isinstance(dataset, Subset):
            dataset = dataset.dataset
        names = getattr(self.source, "classes", None) or getattr(dataset, "classes", None)
        count = getattr(self.source, "num_classes", None)
        if isinstance(names, (list, tuple)):
            self.classes = tuple(map(str, names))
        elif isinstance(count, int) and not isinstance(count, bool):
            self.classes = tuple(map(str, range(count)))
        if self.own is None and dataset is not None:
            with contextlib.suppress(Exception):  # the run names an item that cannot be read when it needs it
                item = self._train.dataset[0]
                first = item[0] if isinstance(item, (tuple, list)) else None
                self.shape = tuple(first.shape) if isinstance(first, torch.Tensor) else None

    @property
    def has_val(self) -> bool:
        """Whether there is a validation split."""
        return bool(self._val)

    @property
    def has_test(self) -> bool:
        """Whether there is a test set."""
        return self._has_test

    def connect(self, plan: BatchPlan, steps_done: Any, last_step: int) -> None:
        """Set the plan of batches; `steps_done()` is the number of optimizer steps taken so far."""
        self.plan = plan
        if self.own is not None:
            self.own.connect(plan.accumulate, steps_done, last_step)
            self._train_batches: Any = self.own
            return
        self._train_batches = KeyedLoader(
            self._train,
            batches=lambda: training_keys(plan, steps_done(), last_step),
            length=plan.steps_per_epoch * plan.accumulate,
            seed=self.settings.seed,
            split="training",
            num_workers=self.settings.num_workers,
        )

    def setup(self, stage: str) -> None:
        """Show the user's module the trainer, as Lightning would."""
        self.source.trainer = self.trainer

    def teardown(self, stage: str) -> None:
        """Tear down the user's module."""
        self.source.teardown(stage)

    def state_dict(self) -> dict[str, Any]:
        """Return the user's state, and a stream's position after the last optimizer step."""
        own = {"source": self.source.state_dict()}
        return own | ({"stream": self.own.state_dict()} if self.own is not None else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        if state_dict.get("source"):
            self.source.load_state_dict(state_dict["source"])
        if self.own is not None:
            self.own.load_state_dict(state_dict["stream"])

    def train_dataloader(self) -> Any:
        """Return the micro-batches of an epoch, from the run's current step on."""
        return self._train_batches

    def val_dataloader(self) -> list[Any]:
        """Return a loader for each of the user's validation loaders."""
        return [self._evaluation(loader, "validation") for loader in self._val]

    def test_dataloader(self) -> list[Any]:
        """Return a loader for each of the user's test loaders, which are asked for once."""
        if self._test is None:
            self.source.setup("test")
            self._test = self._limited(listed(self.source.test_dataloader()))
            self.sizes["test"] = sum(map(count_items, self._test))
        return [self._evaluation(loader, "test") for loader in self._test]

    def _evaluation(self, loader: Any, split: str) -> Any:
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            return loader
        batches = batches_of(loader)
        plan = self.plan
        return KeyedLoader(
            loader,
            batches=partial(evaluation_keys, batches, plan),
            length=len(batches[plan.rank :: plan.world_size]),
            seed=self.settings.seed,
            split=split,
            num_workers=self.settings.num_workers,
        )


def _overrides(source: pl.LightningDataModule, hook: str) -> bool:
    return getattr(type(source), hook, None) is not getattr(pl.LightningDataModule, hook, None)


def _cut(dataset: Any, settings: LoaderSettings) -> tuple[Any, Any]:
    """Return the training and the validation part of a dataset; `targets` are split in proportion."""
    total = len(dataset)
    folds, fold = settings.folds, settings.fold
    sizes = split_sizes(
        total, val_size=settings.val_size, train_size=settings.train_size, folds=folds, fold=fold
    )
    kept, val = split_indices(_targets(dataset), sizes, settings.split_seed, folds=folds, fold=fold)
    return Subset(dataset, kept.tolist()), Subset(dataset, val.tolist())


def _targets(dataset: Any) -> np.ndarray:
    """Return the labels that torchvision's datasets have as `targets`; one class if there are none."""
    found = getattr(dataset, "targets", None)
    try:
        labels = np.asarray(found, dtype=np.int64)
    except (TypeError, ValueError):
        labels = np.empty(0, dtype=np.int64)
    if labels.shape != (len(dataset),) or labels.min() < 0:
        return np.zeros(len(dataset), dtype=np.int64)
    return labels


def _at_most(dataset: Any, items: int | None, split_seed: int) -> Any:
    if items is None or items >= len(dataset):
        return dataset
    return Subset(dataset, stratified(_targets(dataset), items, split_seed).tolist())
