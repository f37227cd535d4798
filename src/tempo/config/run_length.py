"""Length and schedule of a run, from its configuration alone, without reading data."""

from __future__ import annotations

import math

from tempo.config.schema import RunConfig
from tempo.data.split_and_batch_sizes import split_sizes
from tempo.errors import UserError
from tempo.scheduler.build import Scaled, build_schedule
from tempo.scheduler.schedule import Schedule


def planned_images(config: RunConfig) -> int | None:
    """Return the number of training images; None if the configuration does not give the data set's size.

    Raises:
        UserError: the data set is too small for the requested split.
    """
    data = config.data
    if data.train_images is None:
        return None
    sizes = split_sizes(
        data.train_images,
        val_size=data.val_size,
        train_size=data.train_size,
        folds=data.folds,
        fold=data.fold,
    )
    return sizes.train


def planned_steps(config: RunConfig) -> int | None:
    """Return the number of optimizer steps in a run; None if the data set's size is unknown."""
    trainer = config.trainer
    if trainer.max_steps is not None:
        return trainer.max_steps
    steps_per_epoch = planned_steps_per_epoch(config)
    return None if steps_per_epoch is None else trainer.epochs * steps_per_epoch


def planned_steps_per_epoch(config: RunConfig) -> int | None:
    """Return the number of optimizer steps in an epoch; None if the data set's size is unknown."""
    images, limit = planned_images(config), config.trainer.limit_train_steps
    if images is None:
        return None
    steps = max(1, images // config.data.total_batch_size)
    return steps if limit is None else min(steps, limit)


def planned_epochs(config: RunConfig) -> int | None:
    """Return the number of epochs, the last of which may be incomplete; None if it follows from the data."""
    if config.trainer.max_steps is None:
        return config.trainer.epochs
    steps_per_epoch = planned_steps_per_epoch(config)
    return None if steps_per_epoch is None else -(-config.trainer.max_steps // steps_per_epoch)


def check_length(config: RunConfig, steps: int | None) -> None:
    """Raise UserError if a run of this many steps is too short for its schedule; None: not known yet.

    A run with `trainer.limit_train_steps` is a try-out, which may end early in its curve.
    """
    if steps is None or config.scheduler.is_own or config.trainer.limit_train_steps is not None:
        return
    schedule = build_schedule(config.scheduler.node)
    least = schedule.least_steps
    if steps >= least:
        return
    cycles = getattr(schedule, "cycles", None)
    turns = "" if cycles is None else f" with scheduler.cycles={cycles}"
    fewer = f"scheduler.cycles={(steps - 1) // 2}, or " if cycles is not None and steps > 2 else ""
    raise UserError(
        f"the run has {steps} step{'s' * (steps > 1)}, but its schedule{turns} needs {least}; set {fewer}"
        f"trainer.max_steps={least}"
    )


def schedule_of(config: RunConfig) -> Schedule:
    """Return the configured schedule, its learning rate scaled by `trainer.lr_scaling`.

    Raises:
        UserError: the learning rate is the LightningModule's own, `scheduler=own`.
    """
    if config.scheduler.is_own:
        raise UserError(
            "scheduler=own: only the module knows its learning rate; for a module without "
            "configure_optimizers, set scheduler=constant optimizer=adam"
        )
    schedule, factor = build_schedule(config.scheduler.node), lr_factor(config)
    return schedule if factor == 1 else Scaled(schedule, factor)


def lr_factor(config: RunConfig) -> float:
    """Return the learning-rate factor for the total batch size B and `trainer.lr_reference_batch` R.

    It is B / R with `lr_scaling=linear` (Goyal et al. 2017, arXiv:1706.02677), sqrt(B / R) with `sqrt`
    (Krizhevsky 2014, arXiv:1404.5997), and 1 with `none`.
    """
    ratio = config.data.total_batch_size / config.trainer.lr_reference_batch
    return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[config.trainer.lr_scaling]
