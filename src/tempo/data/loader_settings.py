"""Settings for a user's loaders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tempo.data.transforms import Transform


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """Settings of the configuration for a user's loaders.

    Attributes:
        seed: the run's seed, which decides the order and what items draw.
        split_seed, val_size, train_size, folds, fold: as for images, used if the data have no validation
            split of their own.
        transform, eval_transform: change the images of training and of evaluated items.
        normalize: how a classifier normalizes uint8 images.
        num_workers: processes that read items; None for the loader's own number.
        resume: "exact" remakes the training loader in the run's own order; "epoch" uses it as it is, so a
            resumed run starts the interrupted epoch again.
        max_train_items, max_eval_items: bounds for debugging, or None.
        max_train_batches: bound on the batches of an epoch of a loader that is used as it is, or None.
    """

    seed: int
    split_seed: int = 0
    val_size: int | float = 0
    train_size: int | None = None
    folds: int | None = None
    fold: int | None = None
    transform: Sequence[Transform] = ()
    eval_transform: Sequence[Transform] = ()
    normalize: Literal["channel", "unit"] = "channel"
    num_workers: int | None = None
    resume: Literal["exact", "epoch"] = "exact"
    max_train_items: int | None = None
    max_eval_items: int | None = None
    max_train_batches: int | None = None
