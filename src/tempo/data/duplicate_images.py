"""Find images that occur more than once in a data set, by their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Duplicates:
    """Images with equal pixels: how many are both in training and in another split, and the like."""

    shared: int = 0
    """Images of other splits whose pixels are also those of a training image."""
    first_shared: tuple[int, int] | None = None
    """Indices of the first of them and of its training image."""
    within_training: int = 0
    """Training images that repeat an earlier one."""
    of_two_classes: int = 0
    """Images whose pixels also occur with another label."""
    first_of_two_classes: tuple[int, int] | None = None


def find_duplicates(digests: np.ndarray, labels: np.ndarray, is_train: np.ndarray) -> Duplicates:
    """Compare all images by the digests of their pixels, uint64 `[N, 2]`; `is_train` is a boolean `[N]`."""
    found = Duplicates()
    for group in _equal_groups(digests):
        train = [index for index in group if is_train[index]]
        others = [index for index in group if not is_train[index]]
        if train and others:
            found.shared += len(others)
            found.first_shared = found.first_shared or (others[0], train[0])
        found.within_training += max(0, len(train) - 1)
        different = [index for index in group if labels[index] != labels[group[0]]]
        if different:
            found.of_two_classes += len(group)
            found.first_of_two_classes = found.first_of_two_classes or (group[0], different[0])
    return found


def _equal_groups(digests: np.ndarray) -> list[Sequence[int]]:
    """Return the indices of equal digests, in ascending order, for each that occurs more than once."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable
    edges = np.flatnonzero((np.diff(digests[order], axis=0) != 0).any(axis=1)) + 1
    groups = [same.tolist() for same in np.split(order, edges) if len(same) > 1]
    return sorted(groups, key=lambda group: group[0])
