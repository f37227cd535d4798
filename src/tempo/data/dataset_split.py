"""Cut and limit a map-style dataset, its classes in proportion where they are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Subset

from tempo.data.label_sets import strata
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
    """Return the groups that splits keep in proportion, int64 `[N]`; one if labels are not known."""
    labels = labels_of(dataset)
    return np.zeros(len(dataset), dtype=np.int64) if labels is None else strata(labels)


def labels_of(dataset: Any) -> np.ndarray | None:
    """Return the labels that torchvision's datasets have as `targets`, None if there are none.

    They are whole numbers `[N]`, or rows of 0 and 1, `[N, classes]`.
    """
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, Transformed):
        return labels_of(dataset.dataset)
    try:
        found = np.asarray(getattr(dataset, "targets", None))
        labels = found.astype(np.int64)
    except (TypeError, ValueError):
        return None
    if labels.ndim not in (1, 2) or not len(labels) == len(dataset) > 0 or labels.min() < 0:
        return None
    if labels.ndim == 2 and (labels.max() > 1 or (labels != found).any()):
        return None
    return labels
