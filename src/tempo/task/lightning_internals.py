"""All uses of Lightning's undocumented internals: the counters of its loops and its precision plugin.

Written for Lightning 2.6. If a new version moves one of these attributes, change only this file.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.precision import MixedPrecision, Precision


def step_counter(trainer: pl.Trainer) -> Any:
    """Return the counter behind `trainer.global_step` under manual optimization.

    Code that steps an optimizer without Lightning calls `increment_ready()` before and
    `increment_completed()` after each step.
    """
    return trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress


def set_steps_done(trainer: pl.Trainer, steps: int) -> None:
    """Set `trainer.global_step` after another process has taken the optimizer steps."""
    total = step_counter(trainer).total
    total.ready = total.completed = steps


def is_last_chunk_of_epoch(trainer: pl.Trainer) -> bool:
    """Whether the running call of `training_step` is the last one of its epoch."""
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def chunks_begun_in_epoch(trainer: pl.Trainer) -> int:
    """Return the number of `training_step` calls begun in this epoch; a checkpoint restores it."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)


def set_max_steps(trainer: pl.Trainer, steps: int) -> None:
    """Set `trainer.max_steps`; -1 is no limit."""
    trainer.fit_loop.epoch_loop.max_steps = steps


def count_running_epoch_as_done(trainer: pl.Trainer) -> None:
    """Count the epoch in which the run ended as completed.

    A run that was killed between its last step and its last validation resumes with nothing left to train.
    Lightning's loop then stops without counting the epoch, and the next checkpoint would differ.
    """
    epochs = trainer.fit_loop.epoch_progress
    for count in (epochs.total, epochs.current):
        count.completed = count.ready


def finish_restart(trainer: pl.Trainer) -> None:
    """Tell the loops that the first step after a restart is over.

    The epoch's loop would otherwise count as restarting until the epoch ends, and not update a scheduler that
    reacts to a metric (ReduceLROnPlateau) there.
    """
    trainer.fit_loop.restarting = False


def ends_an_epoch(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint was saved after the last step of an epoch."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return bool(epochs["processed"] > epochs["completed"])


def logged_in_training(trainer: pl.Trainer, *, on_step: bool) -> set[str]:
    """Return the names that training has logged in this epoch, per step or as values of the epoch."""
    names: set[str] = set()
    for result in trainer.fit_loop.epoch_loop._results.values():
        meta = result.meta
        if meta.on_step if on_step else meta.on_epoch:
            names |= {meta.name, f"{meta.name}_{'step' if on_step else 'epoch'}"}
    return names


def running_means(trainer: pl.Trainer) -> dict[str, Any]:
    """Return the values that training logs as means over the running epoch, by key.

    Each has `value`, the sum so far weighted by batch sizes, and `cumulated_batch_size` if it is a mean.
    """
    results = trainer.fit_loop.epoch_loop._results
    return {
        key: result
        for key, result in results.items()
        if result.is_tensor
        and result.meta.on_epoch
        and (result.meta.is_mean_reduction or result.meta.is_sum_reduction)
    }


def has_plain_precision(trainer: pl.Trainer) -> bool:
    """Whether the precision plugin neither scales losses nor changes the optimizer step."""
    precision = trainer.precision_plugin
    return type(precision) is Precision or (type(precision) is MixedPrecision and precision.scaler is None)


def precision_of_tests(trainer: pl.Trainer) -> AbstractContextManager[None]:
    """Return the context in which Lightning runs `test_step`: the run's precision."""
    return trainer.precision_plugin.test_step_context()


def saved_steps(checkpoint: dict[str, Any], module: pl.LightningModule) -> Any:
    """Return the optimizer step at which Lightning would resume from a checkpoint."""
    loops = checkpoint["loops"]["fit_loop"]
    if module.automatic_optimization:
        progress = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    else:
        progress = loops["epoch_loop.manual_optimization.optim_step_progress"]
    return progress["total"]["completed"]
