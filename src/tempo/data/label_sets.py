"""Labels of images that have several classes, or none: multi-hot rows of 0 and 1."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor


def multi_hot(sets: Sequence[Collection[int]], classes: int) -> np.ndarray:
    """Return uint8 `[N, classes]`: 1 for each class of an image."""
    rows = np.zeros((len(sets), classes), dtype=np.uint8)
    for row, of_image in zip(rows, sets, strict=True):
        row[list(of_image)] = 1
    return rows


def strata(labels: np.ndarray) -> np.ndarray:
    """Return the group that splits keep in proportion, int64 `[N]`: the class, or the set of classes."""
    if labels.ndim == 1:
        return labels.astype(np.int64)
    return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def label_of(labels: np.ndarray, index: int) -> int | Tensor:
    """Return the label of an image as an item has it: an int, or uint8 `[classes]`."""
    return int(labels[index]) if labels.ndim == 1 else torch.from_numpy(labels[index])


def images_per_class(labels: np.ndarray, classes: int) -> list[int]:
    """Return the number of images of each class; an image counts for each class that it has."""
    counts = np.bincount(labels, minlength=classes) if labels.ndim == 1 else labels.sum(0, dtype=np.int64)
    found: list[int] = counts.tolist()
    return found


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return whether each image is right, bool `[B]`.

    With labels `[B]`, the class of the largest logit is the label. With multi-hot labels `[B, C]`, exactly
    the classes of the image have logits above 0, a probability above 1/2.
    """
    if labels.ndim == 1:
        return logits.argmax(1).eq(labels)
    return logits.gt(0).eq(labels.gt(0.5)).all(1)
