"""The length and the schedule of a run, from its configuration alone: no data is read."""

from __future__ import annotations

from tempo.config.schema import RunConfig
from tempo.data.sizes import split_sizes
from tempo.scheduler.build import build_schedule
from tempo.scheduler.scaled import Scaled, scale_factor
from tempo.scheduler.schedule import Schedule


def planned_images(config: RunConfig) -> int | None:
    """Images that are trained on; None where the size of the data set is not in the configuration.

    Raises:
        UserError: sizes that the data set does not have.
    """
    data = config.data
    if data.train_images is None:
        return None
    sizes = split_sizes(data.train_images, val_size=data.val_size, train_size=data.train_size)
    return sizes.train


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
