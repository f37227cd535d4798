"""Images and labels in memory, as every source returns them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tempo.data.label_sets import strata
from tempo.data.mapped_images import MappedImages

_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images and their labels, in memory or in a mapped file.

    Attributes:
        images: uint8 `[N, C, H, W]`, 0..255.
        labels: int64 `[N]`, each in `0 .. len(classes) - 1`; or uint8 `[N, classes]` with 1 for each class of
            an image that may have several.
        classes: name of each class, in the order of the labels.
        name: short name of the data set, for screens and records.
        note: what a reader of results should know about the data set.
        remarks: one line each for the screen and the record: what was left out, lost or doubled on reading.
        reading: the same as plain values, for the record.

    Raises:
        ValueError: other types or shapes.
    """

    images: Tensor | MappedImages
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    note: str = ""
    remarks: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images are {self.images.dtype} {tuple(self.images.shape)}, not uint8 [N, C, H, W]"
            )
        forms = {torch.int64: (len(self.images),), torch.uint8: (len(self.images), len(self.classes))}
        if forms.get(self.labels.dtype) != tuple(self.labels.shape):
            raise ValueError(
                f"labels are {self.labels.dtype} {tuple(self.labels.shape)}, not int64 [N] or uint8 "
                "[N, classes]"
            )

    def __len__(self) -> int:
        """Number of images, N."""
        return len(self.labels)

    @property
    def has_label_sets(self) -> bool:
        """Whether an image has several classes, or none."""
        return self.labels.ndim == 2

    @property
    def strata(self) -> np.ndarray:
        """Groups that splits keep in proportion, int64 `[N]`: the class, or the set of classes."""
        return strata(self.labels.cpu().numpy())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def take(self, indices: Sequence[int] | np.ndarray | Tensor) -> ImageData:
        """Return the images at `indices`, in that order: a copy, unless they are mapped."""
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        labels = self.labels.index_select(0, index)
        if isinstance(self.images, MappedImages):
            return replace(self, images=self.images.at(index), labels=labels)
        return replace(self, images=self.images.index_select(0, index), labels=labels)

    def between(self, start: int, end: int) -> ImageData:
        """Return the images from `start` up to `end` without a copy."""
        if isinstance(self.images, MappedImages):
            return self.take(np.arange(start, end))
        return replace(self, images=self.images[start:end], labels=self.labels[start:end])

    def parted(self, first: np.ndarray, rest: np.ndarray) -> tuple[ImageData, ImageData]:
        """Return the images at `first` and at `rest`, which are ascending and together all images.

        Both reuse the memory of `self`, so that no image is held twice: do not use `self` afterwards.
        """
        if isinstance(self.images, MappedImages):
            return self.take(first), self.take(rest)
        images, block = self.images, _items_of_a_block(self.images)
        behind = images.index_select(0, torch.from_numpy(rest))
        start = 0
        for indices in torch.from_numpy(first).split(block):
            # Images only move down: what a block overwrites was moved before, or is in the block.
            images[start : start + len(indices)] = images.index_select(0, indices)
            start += len(indices)
        images[len(first) :] = behind
        return (
            replace(self, images=images[: len(first)], labels=self.labels[first]),
            replace(self, images=images[len(first) :], labels=self.labels[rest]),
        )

    def to(self, device: torch.device | str) -> ImageData:
        """Return the data on `device`, without a copy if it is there already."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def sha256(self) -> str:
        """Return the hexadecimal SHA-256 of shapes, class names, labels and images, not of the name."""
        if isinstance(self.images, MappedImages):
            labels = repr(self.classes).encode() + self.labels.numpy().tobytes()
            name = f"sha256-{hashlib.sha256(labels).hexdigest()[:16]}"
            return str(self.images.remembered(name, self._sha256))
        return self._sha256()

    def _sha256(self) -> str:
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.classes)).encode())
        for tensor in (self.labels, self.images):
            for part in tensor.split(_items_of_a_block(tensor)):
                digest.update(part.cpu().contiguous().numpy().data)
        return digest.hexdigest()


def _items_of_a_block(tensor: Tensor | MappedImages) -> int:
    return max(1, _BLOCK_BYTES * len(tensor) // max(1, tensor.nbytes))
