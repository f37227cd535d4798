"""Ends the run of a search's trial that falls behind."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from tempo.task.classifier import Classifier
from tempo.trainer.search_trial import Reporting, Trial


class Pruned(Exception):  # noqa: N818 - a decision, not an error
    """Ends the fit; the checkpoint of the epoch is written."""


class Pruning(pl.Callback):
    """Reports each validation of a fit to the study, and stops all ranks together when it says so.

    `metric` is "loss" or "accuracy". Rank 0 alone knows the study.
    """

    def __init__(self, trial: Trial, metric: str) -> None:
        self.trial = trial
        self.metric = metric
        self.stop = False
        self._reporting = Reporting(trial)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the value, and let all ranks know the answer; after the last step nothing is left to stop."""
        assert isinstance(pl_module, Classifier)
        if trainer.state.fn != "fit":
            return
        stop = False
        if trainer.is_global_zero:
            stop = self._reporting.report(trainer.current_epoch + 1, pl_module.evaluated[self.metric])
        answer: Any = trainer.strategy.broadcast(stop)
        self.stop = bool(answer) and trainer.global_step < pl_module.total_steps

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop here, where the epoch's checkpoint is written."""
        if self.stop:
            epoch = trainer.current_epoch + 1
            raise Pruned(f"stopped after epoch {epoch} of {self.trial.epochs} by {self.trial.pruner}")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the study."""
        self._reporting.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the study."""
        self._reporting.close()
