"""Cut and limit a map-style dataset, its classes in proportion where they are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Subset

from tempo.data.split import split_indices, stratified
from tempo.data.split_and_batch_sizes import split_sizes
from tempo.data.transforms import Transformed


def cut(
    dataset: Any,
    *,
    val_size: int | float,
    train_size: int | None,
    split_seed: int,
    folds: int | None,
    fold: int | None,
) -> tuple[Any, Any]:
    """Return the training and the validation part of a dataset, the same items as `split` for images."""
    sizes = split_sizes(len(dataset), val_size=val_size, train_size=train_size, folds=folds, fold=fold)
    kept, val = split_indices(targets(dataset), sizes, split_seed, folds=folds, fold=fold)
    return Subset(dataset, kept.tolist()), Subset(dataset, val.tolist())


def at_most(dataset: Any, items: int | None, split_seed: int) -> Any:
    """Return a dataset, or a part of `items` items if it has more."""
    if items is None or items >= len(dataset):
        return dataset
    return Subset(dataset, stratified(targets(dataset), items, split_seed).tolist())


def targets(dataset: Any) -> np.ndarray:
    """Return the labels that torchvision's datasets have as `targets`; one class if there are none."""
    if isinstance(dataset, Subset):
        return targets(dataset.dataset)[np.asarray(dataset.indices)]
    if isinstance(dataset, Transformed):
        return targets(dataset.dataset)
    found = getattr(dataset, "targets", None)
    try:
        labels = np.asarray(found, dtype=np.int64)
    except (TypeError, ValueError):
        labels = np.empty(0, dtype=np.int64)
    if labels.shape != (len(dataset),) or labels.min() < 0:
        return np.zeros(len(dataset), dtype=np.int64)
    return labels
