"""Sizes of a run from its configuration alone, before any data is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tempo.data.sizes import split_sizes


def planned_images(config: Mapping[str, Any]) -> int | None:
    """Images that are trained on; None where the size of the data set is not in the configuration.

    Raises:
        UserError: sizes that the data set does not have.
    """
    data = config["data"]
    if data["train_images"] is None:
        return None
    sizes = split_sizes(data["train_images"], val_size=data["val_size"], train_size=data["train_size"])
    return sizes.train


def planned_steps(config: Mapping[str, Any]) -> int | None:
    """Optimizer steps of a run; None where the data set's size is not known."""
    trainer = config["trainer"]
    if trainer["max_steps"] is not None:
        return int(trainer["max_steps"])
    images = planned_images(config)
    if images is None:
        return None
    an_epoch = max(1, images // config["data"]["total_batch_size"])
    if trainer["limit_train_steps"] is not None:
        an_epoch = min(an_epoch, trainer["limit_train_steps"])
    return int(trainer["epochs"] * an_epoch)
