"""Cut validation from the training images, stratified: each class gives its share."""

from __future__ import annotations

import numpy as np

from tempo.data.images import ImageData
from tempo.data.sizes import split_sizes


def split(
    train: ImageData, *, val_size: int | float, train_size: int | None, split_seed: int
) -> tuple[ImageData, ImageData | None]:
    """Training and validation split of the official training images.

    Validation is chosen first, so it is the same set whatever `train_size` keeps of the rest. Both keep
    the order of the source. The choice depends on the labels and `split_seed` alone.

    Args:
        train: the source's training images, used up: both parts may lie in their memory.
        val_size, train_size: see `split_sizes`.
        split_seed: any integer; independent of the seed of the run.
    """
    total = len(train)
    sizes = split_sizes(total, val_size=val_size, train_size=train_size)
    labels = train.labels.cpu().numpy()
    val_indices = stratified(labels, sizes.val, split_seed)
    rest = np.setdiff1d(np.arange(total), val_indices, assume_unique=True)
    if sizes.train < len(rest):
        rest = rest[stratified(labels[rest], sizes.train, split_seed)]
    if len(rest) == total:
        return train, None
    if len(rest) + sizes.val == total:
        return train.parted(rest, val_indices)
    return train.take(rest), train.take(val_indices) if sizes.val else None


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted indices of `count` items drawn without replacement, each class in proportion to its size.

    A class of n_c among n items gives floor(count * n_c / n) or one more (largest remainder, ties to the
    lower label), so the sum is exactly `count`.
    """
    sizes = np.bincount(labels)
    quota, remainder = np.divmod(count * sizes, max(1, len(labels)))
    missing = count - int(quota.sum())
    quota[np.argsort(-remainder, kind="stable")[:missing]] += 1
    # Raw counter output and a stable sort: the choice does not depend on the version of numpy.
    key = np.array([seed % 2**64, 0], dtype=np.uint64)
    shuffled = np.argsort(np.random.Philox(key=key).random_raw(len(labels)), kind="stable")
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.arange(len(labels)) - first < np.repeat(quota, sizes)
    return np.sort(by_class[chosen])
