"""What a run needs to know of its data, whether images in memory or a user's own loaders."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import pytorch_lightning as pl

from tempo.data.augment import Preprocess, normalization
from tempo.data.batches import BatchPlan, Chunk, EvalBatches, TrainBatches
from tempo.data.class_counts import counts_of_sets
from tempo.data.images import ImageData
from tempo.data.random_seeds import EVALUATED_BATCH, TRAINED_BATCH, SeededBatches
from tempo.data.step_chunks import ImageBatches, StepChunks

Order = Literal["exact", "own"]
"""Whether a batch is a function of (seed, epoch, position), or whatever the user's own loader gives."""


class RunDataModule(pl.LightningDataModule):
    """The data of a run: loaders for Lightning, and facts for the record.

    Attributes:
        name: short name of the data set.
        note: what a reader of results should know about it.
        sha256: identity of the data; `identity` says what it covers.
        sizes: items in the splits train, val and test; 0 for a split that does not exist.
        classes: names of the classes, if the data have any.
        has_label_sets: whether the label of an image is a row of 0 and 1, one per class.
        shape: shape of one input, if all have the same.
        unused: official training items that are in no split.
        module: the LightningModule that is trained, if these are its own loaders.
        remarks: lines about the images for the screen and the record.
        reading: the same as plain values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name: str = ""
        self.note = ""
        self.sha256 = ""
        self.identity = "whole"
        self.sizes: dict[str, int] = {}
        self.classes: tuple[str, ...] = ()
        self.has_label_sets = False
        self.shape: tuple[int, ...] | None = None
        self.order: Order = "exact"
        self.module: pl.LightningModule | None = None
        self.unused = 0
        self.remarks: tuple[str, ...] = ()
        self.reading: Mapping[str, Any] = {}

    @property
    def items(self) -> int:
        """Number of training items."""
        return self.sizes["train"]

    @property
    def class_counts(self) -> dict[str, list[int]] | None:
        """Number of images of each class in each set, if the data say it."""
        return None

    @property
    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, in [0, 1], that normalize uint8 images."""
        raise NotImplementedError

    @property
    def has_val(self) -> bool:
        """Whether there is a validation split."""
        return self.sizes["val"] > 0

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return self.sizes["test"] > 0


class ImageDataModule(RunDataModule):
    """Images in memory. `connect` decides whether batches are raw chunks of steps or ordinary batches.

    `Classifier` takes chunks, which it preprocesses itself. Any other module gets `(images, labels)`: float32
    images `[B, C, H, W]`, normalized and in training augmented, and labels like those of `ImageData`, one
    micro-batch at a time.
    """

    def __init__(
        self,
        train: ImageData,
        val: ImageData | None,
        test: ImageData,
        sha256: str,
        *,
        normalize: Literal["channel", "unit"] = "channel",
        unused: int = 0,
        remarks: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.unused, self.normalize = unused, normalize
        self.remarks, self.reading = remarks, train.reading
        self.train, self.val, self.test = train, val, test
        self.name, self.note, self.sha256 = train.name, train.note, sha256
        self.classes, self.shape = train.classes, train.shape
        self.has_label_sets = train.has_label_sets
        self.sizes = {"train": len(train), "val": len(val) if val else 0, "test": len(test)}
        self._train_batches: Iterable[Any]
        self._evaluation: Callable[[ImageData], Iterable[Any]]

    @property
    def class_counts(self) -> dict[str, list[int]] | None:
        """Number of images of each class in each set."""
        return counts_of_sets(self.train, self.val, self.test)

    @functools.cached_property
    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, in [0, 1], that normalize the images."""
        return normalization(self.normalize, self.train.images)

    def connect(
        self,
        train_batches: Iterable[Any],
        plan: BatchPlan,
        eval_batch_size: int,
        preprocess: tuple[Preprocess, Preprocess] | None = None,
    ) -> None:
        """Set what the loaders return.

        Args:
            train_batches: the chunks of an epoch.
            plan: which images each step sees.
            eval_batch_size: images per batch of an evaluation.
            preprocess: of training and of evaluated images, for a module that takes ordinary batches.
        """
        self._train_batches = train_batches
        if preprocess is not None:
            assert isinstance(train_batches, TrainBatches)
            steps_done = train_batches.next_step
            self._train_batches = SeededBatches(
                MicroBatches(train_batches, plan.per_device, preprocess[0]),
                lambda: (plan.seed, plan.rank, TRAINED_BATCH, steps_done() * plan.accumulate),
            )

        def evaluation(data: ImageData) -> Iterable[Any]:
            batches = EvalBatches(
                data=data, batch_size=eval_batch_size, world_size=plan.world_size, rank=plan.rank
            )
            if preprocess is None:
                return batches
            return SeededBatches(
                PreprocessedBatches(batches, preprocess[1]),
                lambda: (plan.seed, plan.rank, EVALUATED_BATCH, 0, steps_done(), 0),
            )

        self._evaluation = evaluation

    def train_dataloader(self) -> Iterable[Any]:
        """Return the batches of an epoch, from the run's current step on."""
        return self._train_batches

    def val_dataloader(self) -> Iterable[Any]:
        """Return the batches of the validation split; none if there is no such split."""
        return [] if self.val is None else self._evaluation(self.val)

    def test_dataloader(self) -> Iterable[Any]:
        """Return the batches of the test set."""
        return self._evaluation(self.test)


class MicroBatches:
    """The micro-batches of an epoch, preprocessed, for a module that takes one at a time."""

    def __init__(self, chunks: TrainBatches | StepChunks, per_device: int, preprocess: Preprocess) -> None:
        self.chunks, self.per_device, self.preprocess = chunks, per_device, preprocess

    def __len__(self) -> int:
        """Number of micro-batches in a whole epoch."""
        return self.chunks.plan.steps_per_epoch * self.chunks.plan.accumulate

    def __iter__(self) -> Iterator[Any]:
        chunk: Chunk
        for chunk in self.chunks:
            images = self.preprocess(chunk.images, chunk.draws)
            yield from zip(images.split(self.per_device), chunk.labels.split(self.per_device), strict=True)


class PreprocessedBatches:
    """The batches of an evaluation, preprocessed."""

    def __init__(self, batches: EvalBatches | ImageBatches, preprocess: Preprocess) -> None:
        self.batches, self.preprocess = batches, preprocess

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        for images, labels in self.batches:
            yield self.preprocess(images), labels
