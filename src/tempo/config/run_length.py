"""The length and the schedule of a run, from its configuration alone: no data is read."""

from __future__ import annotations

from tempo.config.schema import RunConfig
from tempo.errors import UserError
from tempo.scheduler.build import build_schedule
from tempo.scheduler.scaled import Scaled, scale_factor
from tempo.scheduler.schedule import Schedule


def planned_images(config: RunConfig) -> int | None:
    """Images that are trained on; None where the size of the data set is not in the configuration.

    Raises:
        UserError: validation takes all of them, or `data.train_size` asks for more than are left.
    """
    data = config.data
    official, val = data.train_images, data.val_size
    if official is None:
        return None
    images = int(official) - (round(val * official) if isinstance(val, float) and val < 1 else int(val))
    if images <= 0:
        raise UserError(
            f"data.val_size={val} leaves none of the {official} training images: "
            f"data.val_size=0.1, or at most {official - 1}"
        )
    if data.train_size is not None and data.train_size > images:
        raise UserError(
            f"data.train_size={data.train_size} is more than the {images} images that "
            f"data.val_size={val} leaves: data.train_size=null, or at most {images}"
        )
    return min(images, data.train_size or images)


def planned_steps(config: RunConfig) -> int | None:
    """Optimizer steps of a run; None where the data set's size is not known."""
    trainer = config.trainer
    if trainer.max_steps is not None:
        return int(trainer.max_steps)
    images = planned_images(config)
    if images is None:
        return None
    an_epoch = max(1, images // config.data.total_batch_size)
    if trainer.limit_train_steps is not None:
        an_epoch = min(an_epoch, trainer.limit_train_steps)
    return int(trainer.epochs * an_epoch)


def check_batch_fits(config: RunConfig) -> None:
    """UserError where the training images, as far as they are known, do not fill one batch."""
    images, total = planned_images(config), config.data.total_batch_size
    if images is None or total <= images:
        return
    trainer = config.trainer
    devices = 1 if trainer.is_asynchronous else trainer.processes
    parts = devices * trainer.accumulate
    raise UserError(
        f"data.total_batch_size={total} is more than the {images} training images: "
        f"data.total_batch_size={max(parts, images // parts * parts)} or less"
    )


def schedule_of(config: RunConfig) -> Schedule:
    """Return the configured schedule, its learning rate scaled as `trainer.lr_scaling` asks."""
    schedule: Schedule = build_schedule(config.scheduler.node)
    factor = lr_factor(config)
    return schedule if factor == 1 else Scaled(schedule, factor)


def lr_factor(config: RunConfig) -> float:
    """Return the factor of the learning rate by the total batch size and `trainer.lr_reference_batch`."""
    trainer = config.trainer
    if trainer.lr_scaling == "none":
        return 1.0
    return scale_factor(
        rule=trainer.lr_scaling,
        total_batch_size=config.data.total_batch_size,
        reference_batch=trainer.lr_reference_batch,
    )
