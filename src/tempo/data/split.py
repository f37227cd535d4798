"""Cut validation from the training images, stratified: each class gives its share."""

from __future__ import annotations

import numpy as np

from tempo.data.images import ImageData
from tempo.errors import UserError


def split(
    train: ImageData, *, val_size: int | float, train_size: int | None, split_seed: int
) -> tuple[ImageData, ImageData | None]:
    """Training and validation split of the official training images.

    Validation is chosen first, so it is the same set whatever `train_size` keeps of the rest. Both keep
    the order of the source. The choice depends on the labels and `split_seed` alone.

    Args:
        train: the source's training images, used up: both parts may lie in their memory.
        val_size: images (int), share of the images (float in (0, 1)), or 0 for no validation.
        train_size: images kept for training, or None for all that are left.
        split_seed: any integer; independent of the seed of the run.

    Raises:
        UserError: a size that is negative, no number of images, or more than there are.
    """
    total = len(train)
    val_count = _val_count(val_size, total)
    labels = train.labels.cpu().numpy()
    val_indices = stratified(labels, val_count, split_seed)
    rest = np.setdiff1d(np.arange(total), val_indices, assume_unique=True)
    if train_size is not None:
        if isinstance(train_size, bool) or not isinstance(train_size, int) or train_size < 1:
            raise UserError(
                f"data.train_size={train_size} is no number of images: "
                f"use data.train_size=null or 1 to {len(rest)}."
            )
        if train_size > len(rest):
            raise UserError(
                f"data.train_size={train_size} is more than the {len(rest)} images that "
                f"data.val_size={val_size} leaves: use data.train_size=null or at most {len(rest)}."
            )
        if train_size < len(rest):
            rest = rest[stratified(labels[rest], train_size, split_seed)]
    if len(rest) == total:
        return train, None
    if len(rest) + val_count == total:
        return train.parted(rest, val_indices)
    return train.take(rest), train.take(val_indices) if val_count else None


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


def _val_count(val_size: int | float, total: int) -> int:
    """Number of validation images that `val_size` asks for."""
    share = isinstance(val_size, float) and 0 < val_size < 1
    if not share and (isinstance(val_size, bool) or val_size < 0 or val_size != int(val_size)):
        raise UserError(
            f"data.val_size={val_size} is neither a number of images nor a share between 0 and 1: "
            "use for example data.val_size=0.1, or 0 for none."
        )
    count = round(val_size * total) if share else int(val_size)
    if share and count == 0:
        raise UserError(
            f"data.val_size={val_size} of {total} images is none: use for example data.val_size=0.1, or 0 for none."
        )
    if count >= total:
        raise UserError(
            f"data.val_size={val_size} leaves none of the {total} training images: "
            f"use data.val_size=0.1 or at most {total - 1}."
        )
    return count
