"""Image files that are decoded when their images are used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from tempo.data.decode_image import Decoding, UnreadableImageError, decode_image
from tempo.data.folder_names import shown
from tempo.data.label_sets import label_of
from tempo.errors import UserError


class ImageFiles(Dataset[tuple[Tensor, Any]]):
    """Map-style data set of `(uint8 image [C, H, W], label)`; images may differ in size.

    The label is an int, or uint8 `[classes]` if an image may have several.

    Args:
        root: folder that `names` are relative to.
        names: the files.
        labels: int64 `[N]`, or uint8 `[N, classes]`.
        classes: name of each class, in the order of the labels.
        how: how a file is decoded.
        sizes_and_content: sizes of all files and a digest of a sample of their content, for the identity.
        remarks, reading: as those of `ImageData`.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        labels: np.ndarray,
        classes: tuple[str, ...],
        how: Decoding,
        *,
        sizes_and_content: tuple[tuple[int, ...], str],
        remarks: tuple[str, ...] = (),
        reading: Mapping[str, Any] | None = None,
    ) -> None:
        self.root, self.names, self.targets = root, names, labels
        self.classes, self.how, self.sizes_and_content = classes, how, sizes_and_content
        self.remarks, self.reading = remarks, dict(reading or {})
        self.indices = np.arange(len(names))
        self.name = shown(root.resolve().name)

    @staticmethod
    def collate(items: list[Any]) -> Any:
        """Return a batch; UserError if images differ in size."""
        return collate_images(items)

    def __len__(self) -> int:
        """Number of images, N."""
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        name = self.names[int(self.indices[index])]
        try:
            pixels = decode_image(self.root / name, self.how).pixels
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{shown(name)}: {error}") from error
        if pixels is None:
            raise UnreadableImageError(
                f"{shown(name)} has more than 8 bits, whose range over all images is not known; set "
                "data.store=disk or memory"
            )
        return torch.from_numpy(np.array(pixels)), label_of(self.targets, index)

    def at(self, indices: np.ndarray) -> ImageFiles:
        """Return the images at `indices`; the list of names is shared."""
        part = ImageFiles(
            self.root,
            self.names,
            self.targets[indices],
            self.classes,
            self.how,
            sizes_and_content=self.sizes_and_content,
            remarks=self.remarks,
            reading=self.reading,
        )
        part.indices = self.indices[indices]
        return part

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of names, sizes, labels, classes, options, and content of a sample."""
        names = [self.names[int(position)] for position in self.indices]
        facts = repr((self.sizes_and_content, names, self.classes, self.how))
        digest = hashlib.sha256(facts.encode("utf-8", "surrogateescape"))
        digest.update(self.targets.tobytes())
        return digest.hexdigest()


def collate_images(items: list[Any]) -> Any:
    """Stack the items of a batch; UserError if images differ in size."""
    shapes = {tuple(item[0].shape) for item in items if isinstance(item[0], Tensor)}
    if len(shapes) > 1:
        (_, *first), (_, *second) = sorted(shapes)[:2]
        raise UserError(
            f"a batch has images of {first[0]}x{first[1]} and {second[0]}x{second[1]} pixels; set "
            "data.image_size=<pixels>, or data.transform and data.eval_transform to crop them"
        )
    return default_collate(items)
