"""A user's LightningDataModule or datasets as the data of a run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch

from tempo.data.augment import Augment, Preprocess, statistics_of
from tempo.data.batches import BatchPlan
from tempo.data.class_counts import class_names, counts_of_datasets
from tempo.data.dataset_split import at_most, cut
from tempo.data.datasets_module import DatasetsModule
from tempo.data.identity import identity
from tempo.data.image_files import ImageFiles
from tempo.data.keyed_loader import KeyedLoader, evaluation_loader, sampled_images, training_keys
from tempo.data.loader_order import (
    batch_size_of,
    check_order,
    count_items,
    is_stateful_stream,
    length_of,
    listed,
    together,
    with_dataset,
    with_datasets,
)
from tempo.data.loader_settings import LoaderSettings
from tempo.data.own_order import OwnOrder
from tempo.data.random_seeds import (
    EVALUATED_BATCH,
    TRAINED_BATCH,
    SeededBatches,
    global_generators_seeded,
)
from tempo.data.run_data_module import ImageDataModule, MicroBatches, PreprocessedBatches, RunDataModule
from tempo.data.split_and_batch_sizes import check_no_folds
from tempo.data.step_chunks import ImageBatches, StepChunks
from tempo.data.transforms import Transformed, source_of, untransformed
from tempo.errors import UserError

_MEASURED_ITEMS = 512


class LoaderDataModule(RunDataModule):
    """A user's data: each loader is remade in the run's own order, with its collate function and workers.

    `source` has the loaders: a LightningDataModule, or the LightningModule that is trained. Its
    `test_dataloader` is asked for once, when the state to test is chosen.

    Raises:
        UserError: a loader's order cannot be taken over, or there are no items.
    """

    def __init__(self, source: pl.LightningDataModule | pl.LightningModule, settings: LoaderSettings) -> None:
        super().__init__()
        self.source, self.settings = source, settings
        self.name: str = type(source).__name__
        if isinstance(source, pl.LightningModule):
            self.module = source
        for hook in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"):
            # Lightning calls those of the module that is trained itself.
            if self.module is None and _overrides(source, hook):
                setattr(self, hook, getattr(source, hook))
        if not _overrides(source, "train_dataloader"):
            raise UserError(
                f"data={self.name} has no train_dataloader, so nothing would be trained; write one, or set "
                "data=<option of conf/data>"
            )
        source.prepare_data()
        with global_generators_seeded(settings.split_seed):
            source.setup("fit")
        self._train: Any = source.train_dataloader()
        self.loader_batch_size = batch_size_of(self._train)
        """Batch size of the user's own training loader."""
        # With data.val_size=0 a validation set of the user's own is not used, like one of image files.
        validates = bool(settings.val_size or settings.folds) and _overrides(source, "val_dataloader")
        self._val = listed(source.val_dataloader()) if validates else []
        self._test: list[Any] | None = None
        self._has_test = _overrides(source, "test_dataloader")
        if isinstance(source, DatasetsModule):
            self._has_test = "test" in source.datasets
        self._train_batches: Any = None
        self._gives_images = False
        self.images: ImageDataModule | None = None
        """The images in memory that the items are, if they are."""
        self.own: OwnOrder | None = None
        if settings.resume == "epoch" or is_stateful_stream(self._train):
            self._take_as_it_is(self._train)
        else:
            self._take_items(self._train)
        self._find_classes()

    def _take_as_it_is(self, train: Any) -> None:
        train = together(train)
        length = length_of(train, self.settings.max_train_batches, self.name)
        self.own = OwnOrder(train, length, self.settings.seed, exact=self.settings.resume == "exact")
        self.order = "exact" if self.own.exact else "own"
        self.sizes = {"train": length, "val": 0, "test": 0}  # steps, until the plan is known
        self.sha256, self.identity = "", "none"
        self.sizes["val"] = sum(len(loader.dataset) for loader in self._val if hasattr(loader, "dataset"))

    def _take_items(self, train: Any) -> None:
        settings = self.settings
        check_order(train, self.name)
        dataset = train.dataset
        if self._val:
            check_no_folds(self.name, settings.folds)
        val_size = 0 if self._val else settings.val_size
        if val_size or settings.folds is not None or settings.train_size is not None:
            dataset, val = cut(
                dataset,
                val_size=val_size,
                train_size=settings.train_size,
                split_seed=settings.split_seed,
                folds=settings.folds,
                fold=settings.fold,
            )
            if len(val):
                self._val = [with_dataset(train, val, self.loader_batch_size or 1)]
        dataset = at_most(dataset, settings.max_train_items, settings.split_seed)
        self._val = self._limited(self._val)
        sizes = [count_items(loader) for loader in self._val]
        self.sizes = {"train": len(dataset), "val": sum(sizes), "test": 0}
        self.sha256, self.identity = identity(self.source, dataset)
        if settings.transform:
            dataset = Transformed(dataset, settings.transform, "data.transform")
        self._train = with_dataset(train, dataset)
        self._val = self._transformed(self._val)

    def _limited(self, loaders: list[Any]) -> list[Any]:
        """Return loaders with at most `max_eval_items` items each."""
        most, split_seed = self.settings.max_eval_items, self.settings.split_seed
        return with_datasets(loaders, partial(at_most, items=most, split_seed=split_seed))

    def _transformed(self, loaders: list[Any]) -> list[Any]:
        chain = self.settings.eval_transform
        change = partial(Transformed, transforms=chain, key="data.eval_transform")
        return with_datasets(loaders, change) if chain else loaders

    def _find_classes(self) -> None:
        dataset = source_of(getattr(self._train, "dataset", None))
        if isinstance(dataset, ImageFiles):
            self.remarks, self.reading = dataset.remarks, dataset.reading
        self.classes = class_names(self.source, dataset)
        if self.own is None and dataset is not None:
            try:
                item = self._train.dataset[0]
            except UserError:  # a transform that cannot be used for any item
                raise
            except Exception:  # noqa: BLE001 - the run names an item that cannot be read when it needs it
                return
            first, *rest = item if isinstance(item, (tuple, list)) and item else (None,)
            self.shape = tuple(first.shape) if isinstance(first, torch.Tensor) else None
            label = rest[0] if len(rest) == 1 else None
            self.has_label_sets = isinstance(label, torch.Tensor) and label.shape == (len(self.classes),)

    @property
    def class_counts(self) -> dict[str, list[int]] | None:
        """Number of images of each class in each set; None unless all are labelled files."""
        if self.images is not None:
            return self.images.class_counts
        sets = self.source.datasets if isinstance(self.source, DatasetsModule) else {}
        if not sets or not all(isinstance(dataset, ImageFiles) for dataset in sets.values()):
            return None
        parts = {"train": self._train.dataset, "val": self._val[0].dataset if self._val else None}
        parts["test"] = sets.get("test")
        return counts_of_datasets(parts, len(self.classes))

    @functools.cached_property
    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, in [0, 1], that normalize uint8 images.

        Those of up to 512 training items before `data.transform`, evenly spaced: reading all might take
        hours.
        """
        if self.images is not None:
            return self.images.mean_and_std
        channels = self.shape[0] if self.shape else 0
        plain = (0.0,) * channels, (1.0,) * channels
        if self.settings.normalize == "unit" or self.own is not None:
            return plain
        images = sampled_images(untransformed(self._train.dataset), _MEASURED_ITEMS, self.settings.seed)
        return statistics_of(images) if images else plain

    @property
    def of_tempo(self) -> bool:
        """Whether tempo reads the images: a module gets them normalized, as those in memory."""
        return self.images is not None or isinstance(
            source_of(getattr(self._train, "dataset", None)), ImageFiles
        )

    @property
    def has_val(self) -> bool:
        """Whether there is a validation split."""
        return bool(self._val)

    @property
    def has_test(self) -> bool:
        """Whether there is a test set."""
        return self._has_test

    def connect(
        self,
        plan: BatchPlan,
        steps_done: Callable[[], int],
        last_step: int,
        *,
        augment: Augment | None = None,
        preprocess: tuple[Preprocess, Preprocess] | None = None,
    ) -> None:
        """Set the plan of batches; `steps_done()` is the number of optimizer steps taken so far.

        With `augment`, training batches are chunks of one step and evaluated batches are pairs of images and
        labels, as a classifier takes them; with `preprocess` too, both are preprocessed micro-batches.
        """
        self._connect(plan, steps_done, last_step)
        self._steps_done = steps_done
        self._gives_images = augment is not None
        if augment is not None:
            self._train_batches = StepChunks(
                self._train_batches,
                plan=plan,
                augment=augment,
                classes=len(self.classes),
                next_step=steps_done,
            )
        self._preprocess = preprocess
        if preprocess is not None:
            self._train_batches = MicroBatches(self._train_batches, plan.per_device, preprocess[0])
        self._is_seeded = augment is None or preprocess is not None  # a classifier seeds its steps itself
        if self._is_seeded:
            kind = (plan.seed, plan.rank, TRAINED_BATCH)
            self._train_batches = SeededBatches(
                self._train_batches, lambda: (*kind, steps_done() * plan.accumulate)
            )

    def _connect(self, plan: BatchPlan, steps_done: Callable[[], int], last_step: int) -> None:
        self.plan = plan
        own_size = self.loader_batch_size
        if self.own is None and not isinstance(self.source, DatasetsModule) and own_size != plan.per_device:
            self.remarks = (
                *self.remarks,
                f"batches have {plan.per_device} items, by data.total_batch_size, not the {own_size} of "
                f"{self.name}'s loader",
            )
        if self.own is not None:
            self.own.connect(plan.accumulate, steps_done, last_step)
            self._train_batches = self.own
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
        """Show the user's data module the trainer, as Lightning would."""
        if self.module is None:
            self.source.trainer = self.trainer

    def teardown(self, stage: str) -> None:
        """Tear down the user's data module."""
        if self.module is None:
            self.source.teardown(stage)

    def state_dict(self) -> dict[str, Any]:
        """Return the user's state, and a stream's position after the last optimizer step."""
        own = {"source": self.source.state_dict() if self.module is None else {}}
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
        return [self._as_taken(loader, "validation", number) for number, loader in enumerate(self._val)]

    def test_dataloader(self) -> list[Any]:
        """Return a loader for each of the user's test loaders, which are asked for once."""
        if self._test is None:
            with global_generators_seeded(self.settings.split_seed):
                self.source.setup("test")
            self._test = self._transformed(self._limited(listed(self.source.test_dataloader())))
            self.sizes["test"] = sum(map(count_items, self._test))
            self._has_test = bool(self._test)
        return [self._as_taken(loader, "test", number) for number, loader in enumerate(self._test)]

    def _as_taken(self, loader: Any, split: str, number: int) -> Any:
        """Return the batches of an evaluation loader as the module takes them."""
        plan, steps_done = self.plan, self._steps_done
        batches = evaluation_loader(loader, plan, split, self.settings.num_workers)
        if self._gives_images:
            batches = ImageBatches(batches, len(self.classes))
        if self._preprocess is not None:
            batches = PreprocessedBatches(batches, self._preprocess[1])
        if self._is_seeded:
            kind = (plan.seed, plan.rank, EVALUATED_BATCH, number)
            batches = SeededBatches(batches, lambda: (*kind, steps_done(), 0))
        return batches


def _overrides(source: pl.LightningDataModule | pl.LightningModule, hook: str) -> bool:
    # Lightning's two kinds of modules inherit these hooks from the same class.
    return getattr(type(source), hook, None) is not getattr(pl.LightningDataModule, hook, None)
