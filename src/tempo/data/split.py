"""Cut a stratified validation split from the training images."""

from __future__ import annotations

import numpy as np

from tempo.data.images import ImageData
from tempo.data.split_and_batch_sizes import SplitSizes, split_sizes


def split(
    train: ImageData,
    *,
    val_size: int | float,
    train_size: int | None,
    split_seed: int,
    folds: int | None = None,
    fold: int | None = None,
) -> tuple[ImageData, ImageData | None]:
    """Return the training and the validation split of the official training images.

    Validation is chosen first, so it is the same for any `train_size`. Both keep the order of the source. The
    choice depends only on the labels and `split_seed`.

    Args:
        train: the source's training images; do not use them afterwards, both splits may reuse their memory.
        val_size, train_size, folds, fold: see `split_sizes`.
        split_seed: any integer; independent of the seed of the run.
    """
    total = len(train)
    sizes = split_sizes(total, val_size=val_size, train_size=train_size, folds=folds, fold=fold)
    kept, val = split_indices(train.strata, sizes, split_seed, folds=folds, fold=fold)
    if len(kept) == total:
        return train, None
    if len(kept) + len(val) == total:
        return train.parted(kept, val)
    return train.take(kept), train.take(val) if len(val) else None


def unused_indices(
    train: ImageData, *, val_size: int | float, train_size: int | None, split_seed: int
) -> np.ndarray:
    """Return the sorted indices of the images that `split` puts into neither part."""
    sizes = split_sizes(len(train), val_size=val_size, train_size=train_size)
    used = np.concatenate(split_indices(train.strata, sizes, split_seed))
    return np.setdiff1d(np.arange(len(train)), used, assume_unique=True)


def split_indices(
    labels: np.ndarray,
    sizes: SplitSizes,
    split_seed: int,
    *,
    folds: int | None = None,
    fold: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted indices of the training and of the validation items.

    Args:
        labels: int64 `[N]`, 0 or more.
        sizes: number of items in both.
        split_seed: seed of the choice.
        folds, fold: validation is this one of `folds` parts; None for a random part.
    """
    if folds is None or fold is None:
        val = stratified(labels, sizes.val, split_seed)
    else:
        # The items in the order of their classes, shuffled within each, are dealt out in turn: a class, and
        # the whole, differ by at most one item between any two parts.
        val = np.sort(_shuffled_by_class(labels, split_seed)[fold::folds])
    kept = np.setdiff1d(np.arange(len(labels)), val, assume_unique=True)
    if sizes.train < len(kept):
        kept = kept[stratified(labels[kept], sizes.train, split_seed)]
    return kept, val


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return sorted indices of `count` items drawn without replacement, each class in proportion to its size.

    A class of n_c among n items gets floor(count * n_c / n) or one more (largest remainder, ties to the lower
    label), so the sum is exactly `count`.
    """
    sizes = np.bincount(labels)
    quota, remainder = np.divmod(count * sizes, max(1, len(labels)))
    missing = count - int(quota.sum())
    quota[np.argsort(-remainder, kind="stable")[:missing]] += 1
    by_class = _shuffled_by_class(labels, seed)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.arange(len(labels)) - first < np.repeat(quota, sizes)
    return np.sort(by_class[chosen])


def _shuffled_by_class(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return all indices in the order of their labels, shuffled within each class."""
    # Raw counter output and a stable sort, so that the choice does not depend on the version of numpy.
    key = np.array([seed % 2**64, 0], dtype=np.uint64)
    shuffled = np.argsort(np.random.Philox(key=key).random_raw(len(labels)), kind="stable")
    return shuffled[np.argsort(labels[shuffled], kind="stable")]
