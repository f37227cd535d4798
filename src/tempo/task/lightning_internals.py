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


def count_running_epoch_as_done(trainer: pl.Trainer) -> None:
    """Count the epoch in which the run ended as completed.

    A run that was killed between its last step and its last validation resumes with nothing left to train.
    Lightning's loop then stops without counting the epoch, and the next checkpoint would differ.
    """
    epochs = trainer.fit_loop.epoch_progress
    for count in (epochs.total, epochs.current):
        count.completed = count.ready


def has_plain_precision(trainer: pl.Trainer) -> bool:
    """Whether the precision plugin neither scales losses nor changes the optimizer step."""
    precision = trainer.precision_plugin
    return type(precision) is Precision or (type(precision) is MixedPrecision and precision.scaler is None)


def precision_of_tests(trainer: pl.Trainer) -> AbstractContextManager[None]:
    """Return the context in which Lightning runs `test_step`: the run's precision."""
    return trainer.precision_plugin.test_step_context()


def saved_steps(checkpoint: dict[str, Any]) -> Any:
    """Return the optimizer step at which Lightning would resume from a checkpoint."""
    loops = checkpoint["loops"]["fit_loop"]
    return loops["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"]
