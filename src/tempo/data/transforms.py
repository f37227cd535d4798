"""Transforms of single images and mixing of batches, both drawn from seeds of their place in the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset

from tempo.data.images import ImageData
from tempo.data.label_sets import label_of
from tempo.errors import UserError

Transform = Callable[[Any], Any]


class ImageItems(Dataset[tuple[Tensor, Any]]):
    """Images in memory or in a mapped file as a map-style data set of `(uint8 [C, H, W], label)`.

    The label is an int, or uint8 `[classes]` if an image may have several.
    """

    def __init__(self, data: ImageData) -> None:
        self.data, self.classes = data, data.classes
        self.targets = data.labels.numpy()

    def __len__(self) -> int:
        """Number of images, N."""
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self.data.images[index : index + 1][0].clone(), label_of(self.targets, index)


class Transformed(Dataset[Any]):
    """A map-style data set of `(image, ...)` whose images are changed by a chain of transforms.

    A loader of a run seeds torch, numpy and `random` before each item, so what a transform draws is a
    function of (seed, epoch, index). An image of Pillow becomes uint8 `[C, H, W]` at the end of the chain.
    """

    def __init__(self, dataset: Any, transforms: Sequence[Transform], key: str) -> None:
        self.dataset, self.transforms, self.key = dataset, transforms, key

    def __len__(self) -> int:
        """Number of items."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        item = self.dataset[index]
        if not isinstance(item, (tuple, list)) or not item:
            raise UserError(
                f"{self.key} changes the image of an item (image, label), but an item of these data is a "
                f"{type(item).__name__}; set {self.key}=null, and change the item in your data set"
            )
        image = item[0]
        for transform in self.transforms:
            image = transform(image)
        image = as_tensor(image)
        if not isinstance(image, Tensor) or image.ndim != 3:
            raise UserError(
                f"{self.key} gives a {type(image).__name__}, not an image [C, H, W]; end the list with "
                "{_target_: torchvision.transforms.v2.ToImage}, or set " + f"{self.key}=null"
            )
        return (image, *item[1:])


def as_tensor(image: Any) -> Any:
    """Return an image of Pillow as uint8 `[C, H, W]`, anything else as it is."""
    if not isinstance(image, Image.Image):
        return image
    from torchvision.transforms.v2.functional import pil_to_tensor

    return pil_to_tensor(image)


def untransformed(dataset: Any) -> Any:
    """Return the data set below a `Transformed`."""
    return dataset.dataset if isinstance(dataset, Transformed) else dataset


def source_of(dataset: Any) -> Any:
    """Return the data set below all subsets and transforms."""
    while isinstance(dataset, (Subset, Transformed)):
        dataset = dataset.dataset
    return dataset


class MixImages:
    """Mixup (Zhang et al., arXiv:1710.09412) and CutMix (Yun et al., arXiv:1905.04899) of a micro-batch.

    With both, each micro-batch gets one of the two with probability 1/2.

    Args:
        mixup, cutmix: alpha of the beta distribution of the shares; None is off.
        num_classes: number of classes.
    """

    def __init__(self, mixup: float | None, cutmix: float | None, num_classes: int) -> None:
        from torchvision.transforms import v2

        kinds = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        found = [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in kinds if alpha is not None]
        self._mix = found[0] if len(found) == 1 else v2.RandomChoice(found)

    def __call__(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return mixed images `[B, C, H, W]` and the shares of the classes, float `[B, classes]`."""
        torch.default_generator.manual_seed(seed)
        mixed: tuple[Tensor, Tensor] = self._mix(images, labels)
        return mixed
