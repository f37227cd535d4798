"""Sizes of a run from its configuration alone, before any data is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tempo.distributed.process_group import is_asynchronous
from tempo.errors import UserError


def planned_images(config: Mapping[str, Any]) -> int | None:
    """Images that are trained on; None where the size of the data set is not in the configuration.

    Raises:
        UserError: validation takes all of them, or `data.train_size` asks for more than are left.
    """
    data = config["data"]
    official, val = data["train_images"], data["val_size"]
    if official is None:
        return None
    images = int(official) - (round(val * official) if isinstance(val, float) and val < 1 else int(val))
    if images <= 0:
        raise UserError(
            f"data.val_size={val} leaves none of the {official} training images: "
            f"data.val_size=0.1, or at most {official - 1}"
        )
    if data["train_size"] is not None and data["train_size"] > images:
        raise UserError(
            f"data.train_size={data['train_size']} is more than the {images} images that "
            f"data.val_size={val} leaves: data.train_size=null, or at most {images}"
        )
    return min(images, data["train_size"] or images)


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


def check_batch_fits(config: Mapping[str, Any]) -> None:
    """UserError where the training images, as far as they are known, do not fill one batch."""
    images, total = planned_images(config), config["data"]["total_batch_size"]
    if images is None or total <= images:
        return
    trainer = config["trainer"]
    devices = 1 if is_asynchronous(trainer) else trainer["devices"] * trainer["num_nodes"]
    parts = devices * trainer["accumulate"]
    raise UserError(
        f"data.total_batch_size={total} is more than the {images} training images: "
        f"data.total_batch_size={max(parts, images // parts * parts)} or less"
    )
