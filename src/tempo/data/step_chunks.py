"""Ordinary batches of (images, labels) as the chunks that a classifier trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from tempo.data.augment import Augment
from tempo.data.batches import BatchPlan, Chunk
from tempo.errors import UserError


class StepChunks:
    """The batches of a loader as chunks of one optimizer step each.

    Args:
        batches: micro-batches `(images, labels)` in the order of the plan.
        plan: which items each step sees.
        augment: random changes of uint8 images that all have one size; its draws are those of images in
            memory. Float images are used as they come.
        classes: number of classes.
        next_step: returns the number of optimizer steps taken so far.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        *,
        plan: BatchPlan,
        augment: Augment,
        classes: int,
        next_step: Callable[[], int],
    ) -> None:
        self.batches, self.plan, self.augment = batches, plan, augment
        self.classes, self.next_step = classes, next_step

    def __len__(self) -> int:
        """Chunks per epoch."""
        return self.plan.steps_per_epoch

    def __iter__(self) -> Iterator[Chunk]:
        step, batches = self.next_step(), iter(self.batches)
        while len(parts := list(islice(batches, self.plan.accumulate))) == self.plan.accumulate:
            pairs = [images_and_labels(part, self.classes) for part in parts]
            images, labels = pairs[0] if len(pairs) == 1 else map(torch.cat, zip(*pairs, strict=True))
            self._check_sizes([len(labels) for _, labels in pairs])
            yield Chunk(images, labels, self._draws(step, images), 1)
            step += 1

    def _check_sizes(self, sizes: list[int]) -> None:
        size = self.plan.per_device
        if any(found != size for found in sizes[:-1]) or sizes[-1] > size:
            raise UserError(
                f"data: a batch of {max(sizes)} images, but the loader's batch_size is {size}; give "
                "batches of one size, or set data.resume=exact"
            )

    def _draws(self, step: int, images: Tensor) -> Tensor | None:
        if not self.augment.active:
            return None
        height, width = images.shape[2:]
        self.augment.check_fits(height, width)
        epoch, position = divmod(step, self.plan.steps_per_epoch)
        draws = self.plan.epoch_draws(epoch, self.augment, height, width)
        return torch.tensor(draws[position * self.plan.per_rank :][: len(images)])


class ImageBatches:
    """The batches of an evaluation, each checked to be images and labels."""

    def __init__(self, batches: Any, classes: int) -> None:
        self.batches, self.classes = batches, classes

    def __len__(self) -> int:
        """Number of batches."""
        assert isinstance(self.batches, Sized)
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.batches:
            yield images_and_labels(batch, self.classes)


def images_and_labels(batch: Any, classes: int) -> tuple[Tensor, Tensor]:
    """Return the parts of a batch that a classifier can learn from.

    Raises:
        UserError: the batch is not `(images, labels)`, uint8 or float `[B, C, H, W]`, and int64 `[B]` in
            `0 .. classes - 1` or 0 and 1 `[B, classes]`.
    """
    parts = tuple(batch) if isinstance(batch, (list, tuple)) else ()
    if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
        raise _refusal(f"a batch is {_form(batch)}")
    images, labels = parts
    if images.ndim != 4 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise _refusal(f"images are {_form(images)}")
    if labels.shape == (len(images), classes) and not labels.is_complex():
        return images, _checked_sets(labels)
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.is_complex():
        raise _refusal(f"labels are {_form(labels)}")
    labels = labels.long()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        wrong = int(labels.max()) if int(labels.max()) >= classes else int(labels.min())
        raise UserError(
            f"data: a label is {wrong}, but the data name {classes} classes, 0 .. {classes - 1}; correct the "
            "labels, or the attribute classes"
        )
    return images, labels


def _checked_sets(labels: Tensor) -> Tensor:
    """Return rows of 0 and 1, one per class, as uint8."""
    found = labels.to(torch.uint8)
    if not (found.eq(labels).all() and found.le(1).all()):
        wrong = next(value for value in labels.flatten().tolist() if value not in (0, 1))
        raise UserError(
            f"data: labels {_form(labels)} have the value {wrong:g}, but a column per class has 0 or 1; "
            "correct the labels, or set model=<a LightningModule> for other targets"
        )
    return found


def _refusal(found: str) -> UserError:
    return UserError(
        f"data: {found}; a network needs (images, labels): uint8 or float [B, C, H, W], and one whole number "
        "per image, or 0 and 1 for each class; set model=<a LightningModule> for other batches"
    )


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)} ({', '.join(map(_form, value[:4]))})"
    return f"a {type(value).__name__}"
