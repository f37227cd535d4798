"""Datasets that a function returned, as a data module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from tempo.data.image_files import ImageFiles
from tempo.data.transforms import ImageItems

_SPLITS = ("train", "val", "test")


class DatasetsModule(pl.LightningDataModule):
    """The datasets that a function returned, by split, in DataLoaders with default settings."""

    def __init__(
        self, datasets: Mapping[str, Any], batch_size: int, eval_batch_size: int, num_workers: int | None
    ) -> None:
        super().__init__()
        self.datasets = datasets
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers = num_workers or 0

    def train_dataloader(self) -> DataLoader[Any]:
        """Return a loader of the training set, in micro-batches of one device."""
        return self._loader("train", self.batch_size)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return a loader of the validation set, or none."""
        return self._evaluation("val")

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return a loader of the test set, or none."""
        return self._evaluation("test")

    def _evaluation(self, split: str) -> DataLoader[Any] | list[Any]:
        if split not in self.datasets:
            return []
        return self._loader(split, self.eval_batch_size)

    def _loader(self, split: str, batch_size: int) -> DataLoader[Any]:
        dataset = self.datasets[split]
        is_fixed = isinstance(dataset, (ImageFiles, ImageItems))
        return DataLoader(
            dataset,
            batch_size=batch_size,
            num_workers=self.num_workers,
            # Their start costs more than an epoch of a small data set.
            persistent_workers=self.num_workers > 0 and is_fixed,
            collate_fn=getattr(dataset, "collate", None),
        )


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
