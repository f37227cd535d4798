"""Stop a run early because of its results: diverged, no longer improving, or pruned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from tempo.distributed.collectives import any_rank
from tempo.task.classifier import Classifier
from tempo.trainer.optuna_trial import Reporting, Trial


class Diverged(Exception):  # noqa: N818 - a result, not an error
    """Ends the fit; `step` is the optimizer step (from 0) whose loss revealed the divergence."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"diverged at step {step}: loss {loss:.4g}")
        self.step = step
        self.loss = loss


@dataclass
class DivergenceWatch:
    """Finds a loss that is not finite, or whose running mean is far above its best value.

    The bound is `factor x max(best, ln C)`. ln C is the loss of guessing among C classes; with it, a loss
    near 0 may rise without alarm. The running mean is `s <- s + (loss - s) / 10`, and `best` is its lowest
    value. With `factor=None`, only NaN and infinity count.
    """

    factor: float | None
    num_classes: int
    smoothed: float | None = None
    best: float = math.inf

    def look(self, first_step: int, losses: Sequence[float]) -> None:
        """Check the losses of the steps from `first_step` on; raise `Diverged` at the first out of bounds."""
        for offset, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise Diverged(first_step + offset, loss)
            self.smoothed = loss if self.smoothed is None else self.smoothed + (loss - self.smoothed) / 10
            self.best = min(self.best, self.smoothed)
            bound = max(self.best, math.log(self.num_classes))
            if self.factor is not None and self.smoothed > self.factor * bound:
                raise Diverged(first_step + offset, loss)

    def state_dict(self) -> dict[str, float | None]:
        """Return plain values for a checkpoint."""
        return {"smoothed": self.smoothed, "best": self.best}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Restore `state_dict`."""
        smoothed, best = state["smoothed"], state["best"]
        self.smoothed = None if smoothed is None else float(smoothed)
        self.best = math.inf if best is None else float(best)


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's early stopping, checked after each validation; a resumed run remembers that it stopped."""

    def __init__(self, *, monitor: str, mode: str, patience: int, min_delta: float) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            patience=patience,
            min_delta=min_delta,
            # A resumed run may reach the end of an epoch before its first validation.
            check_on_train_epoch_end=False,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once if the run had stopped before it was killed; a checkpoint lacks `should_stop`."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; raise before the first step if it is invalid."""
        super().load_state_dict(state_dict)
        float(self.best_score)


class Pruned(Exception):  # noqa: N818 - a decision, not an error
    """Ends the fit of a trial that its search stops, after the epoch's checkpoint is written."""


class Pruning(pl.Callback):
    """Reports each validation to a search's study, and stops all ranks together if the pruner decides so.

    `metric` is "loss" or "accuracy". Only rank 0 talks to the study.
    """

    def __init__(self, trial: Trial, metric: str) -> None:
        self.trial = trial
        self.metric = metric
        self.stop = False
        self._reporting = Reporting(trial)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the value and share the answer; after the last step there is nothing left to stop."""
        assert isinstance(pl_module, Classifier)
        if trainer.state.fn != "fit":
            return
        stop = False
        if trainer.is_global_zero:
            stop = self._reporting.report(trainer.current_epoch + 1, pl_module.evaluated[self.metric])
        self.stop = any_rank(trainer.strategy, stop) and trainer.global_step < pl_module.total_steps

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop here, after the epoch's checkpoint is written."""
        if self.stop:
            epoch = trainer.current_epoch + 1
            raise Pruned(f"stopped after epoch {epoch} of {self.trial.epochs} by {self.trial.pruner}")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the connection to the study."""
        self._reporting.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the connection to the study."""
        self._reporting.close()
