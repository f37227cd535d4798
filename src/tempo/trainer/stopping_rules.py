"""Stop a run early because of its results: diverged, no longer improving, or pruned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from tempo.distributed.collectives import any_rank
from tempo.task.late_callback import LateCallback
from tempo.task.progress import Progress
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
    near 0 may rise without alarm. If the module is no classifier (`num_classes=None`), the size of its first
    loss takes the place of ln C. The running mean is `s <- s + (loss - s) / 10`, and `best` is its lowest
    value. With `factor=None`, only NaN and infinity count.
    """

    factor: float | None
    num_classes: int | None
    smoothed: float | None = None
    best: float = math.inf
    first: float | None = None

    def look(self, first_step: int, losses: Sequence[float]) -> None:
        """Check the losses of the steps from `first_step` on; raise `Diverged` at the first out of bounds."""
        for offset, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise Diverged(first_step + offset, loss)
            self.smoothed = loss if self.smoothed is None else self.smoothed + (loss - self.smoothed) / 10
            self.best = min(self.best, self.smoothed)
            self.first = loss if self.first is None else self.first
            floor = abs(self.first) if self.num_classes is None else math.log(self.num_classes)
            bound = max(self.best, floor)
            if self.factor is not None and self.smoothed > self.factor * bound:
                raise Diverged(first_step + offset, loss)

    def state_dict(self) -> dict[str, float | None]:
        """Return plain values for a checkpoint."""
        state = {"smoothed": self.smoothed, "best": self.best}
        return state if self.num_classes is not None else {**state, "first": self.first}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Restore `state_dict`."""
        smoothed, best = state["smoothed"], state["best"]
        self.smoothed = None if smoothed is None else float(smoothed)
        self.best = math.inf if best is None else float(best)
        self.first = state.get("first")


class EarlyStopping(LateCallback, pl.callbacks.EarlyStopping):
    """Lightning's early stopping, checked after each validation; a resumed run remembers that it stopped."""

    def __init__(
        self, *, monitor: str, mode: str, progress: Progress, patience: int, min_delta: float
    ) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            patience=patience,
            min_delta=min_delta,
            # A resumed run may reach the end of an epoch before its first validation.
            check_on_train_epoch_end=False,
        )
        self.metric, self.progress = monitor, progress

    @property
    def state_key(self) -> str:
        """The key of this callback in a checkpoint, whatever name the module logs its metric under."""
        return self._generate_state_key(monitor=self.metric, mode=self.mode)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the metric under the name that the module has logged it with."""
        name = self.metric.partition("/")[2]
        self.monitor = self.progress.logged_as.get(name, self.metric)
        super().on_validation_end(trainer, pl_module)

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


class Pruning(LateCallback):
    """Reports each validation to a search's study, and stops all ranks together if the pruner decides so.

    `metric` is the name of a metric of the validation. Only rank 0 talks to the study.
    """

    def __init__(self, trial: Trial, metric: str, progress: Progress) -> None:
        self.trial = trial
        self.progress = progress
        self.metric = metric
        self.stop = False
        self._reporting = Reporting(trial)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the value and share the answer; after the last step there is nothing left to stop."""
        if trainer.state.fn != "fit":
            return
        stop = False
        if trainer.is_global_zero:
            stop = self._reporting.report(trainer.current_epoch + 1, self.progress.evaluated[self.metric])
        progress = self.progress
        self.stop = any_rank(trainer.strategy, stop) and progress.steps_done < progress.total_steps

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
