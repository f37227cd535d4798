"""Check the sizes of splits and batches, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from tempo.errors import UserError


@dataclass(frozen=True)
class SplitSizes:
    """Number of images in the training and in the validation split."""

    train: int
    val: int


def split_sizes(
    official: int,
    *,
    val_size: int | float,
    train_size: int | None,
    folds: int | None = None,
    fold: int | None = None,
) -> SplitSizes:
    """Return the sizes of the splits that are cut from `official` training images.

    Args:
        official: images in the source's training set.
        val_size: validation images (int), their fraction of all (float in (0, 1)), or 0 for none.
        train_size: images to keep for training; None keeps all that validation leaves.
        folds, fold: validation is part `fold` of `folds` equal parts instead of `val_size`.

    Raises:
        UserError: a size out of range, or larger than the number of images.
    """
    if folds is not None and fold is not None:
        val_size = len(range(fold, official, folds))
    check_val_size(val_size)
    val = round(val_size * official) if isinstance(val_size, float) else val_size
    if val == 0 and val_size > 0:
        raise UserError(f"data.val_size={val_size} of {official} images is none; set data.val_size=1")
    left = official - val
    if left < 1:
        raise UserError(
            f"data.val_size={val_size} leaves none of the {official} training images; "
            f"set data.val_size={max(official // 10, min(1, official - 1))}"
        )
    if train_size is not None and not 1 <= train_size <= left:
        raise UserError(
            f"data.train_size={train_size} is not in [1, {left}], the images that data.val_size={val_size} "
            f"leaves; set data.train_size=null, or at most {left}"
        )
    return SplitSizes(left if train_size is None else train_size, val)


def check_val_size(val_size: int | float) -> None:
    """Raise UserError unless `val_size` is a number of images (int >= 0) or a fraction (float in [0, 1))."""
    if val_size < 0 or (isinstance(val_size, float) and val_size >= 1):
        raise UserError(
            f"data.val_size={val_size} is neither a number of images nor a fraction below 1; "
            "set data.val_size=0.1"
        )


def check_no_folds(name: str, folds: int | None) -> None:
    """Raise UserError if folds are asked for, of data that have a validation set of their own."""
    if folds is not None:
        raise UserError(
            f"data.folds={folds}: {name} has a validation set of its own; set data.folds=null data.fold=null"
        )


def check_batch_size(total: int, *, devices: int, accumulate: int, images: int | None) -> None:
    """Raise UserError unless all micro-batches are equal, and one batch is not more than all images.

    Args:
        total: total batch size (TBS), images per optimizer step.
        devices: over all nodes.
        accumulate: micro-batches per device and optimizer step.
        images: training images, or None if their number is not known yet.
    """
    parts = devices * accumulate
    if total % parts:
        nearest = max(parts, round(total / parts) * parts)
        raise UserError(
            f"data.total_batch_size={total} is not divisible by {devices} devices x {accumulate} "
            f"accumulation steps = {parts}; set data.total_batch_size={nearest}"
        )
    if images is not None and parts > images:
        raise UserError(
            f"data.total_batch_size={total}: {devices} devices x {accumulate} accumulation steps need "
            f"{parts} training images, and there are {images}; set trainer.devices=1 trainer.accumulate=1 "
            f"data.total_batch_size={min(total, images)}"
        )
    if images is not None and total > images:
        raise UserError(
            f"data.total_batch_size={total} is more than the {images} training images; "
            f"set data.total_batch_size={images // parts * parts} or less"
        )
