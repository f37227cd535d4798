"""Find images that occur more than once in a data set, by their pixels."""

from __future__ import annotations

import zlib
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


def find_duplicates(images: np.ndarray, labels: np.ndarray, is_train: np.ndarray) -> Duplicates:
    """Compare all images uint8 `[N, C, H, W]`; `is_train` is a boolean `[N]`."""
    found = Duplicates()
    for group in _equal_groups(images):
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


def _equal_groups(images: np.ndarray) -> list[Sequence[int]]:
    """Return the indices of equal images, in ascending order, for each image that occurs more than once."""
    checksums = np.fromiter((zlib.crc32(image) for image in images), dtype=np.uint32, count=len(images))
    order = np.argsort(checksums, kind="stable")
    edges = np.flatnonzero(np.diff(checksums[order])) + 1
    groups: list[Sequence[int]] = []
    for same in np.split(order, edges):
        if len(same) > 1:
            by_pixels: dict[bytes, list[int]] = {}  # two images may have one checksum by chance
            for index in same:
                by_pixels.setdefault(images[index].tobytes(), []).append(int(index))
            groups += [group for group in by_pixels.values() if len(group) > 1]
    return groups
