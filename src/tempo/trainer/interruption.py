"""SIGTERM and Ctrl-C: save the state, then stop; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
from types import TracebackType
from typing import Any

import pytorch_lightning as pl

from tempo.distributed.stop_signals import StopSignals
from tempo.task.classifier import Classifier
from tempo.task.lightning_internals import is_last_chunk_of_epoch
from tempo.trainer.checkpoints import Checkpoints

STOPPED_AFTER = "the step to stop after"
"""Why a run stopped that was told when to."""


class Interrupted(BaseException):
    """Ends a run that was asked to stop; like KeyboardInterrupt it is no error that code may deal with."""


class Interruption(pl.Callback):
    """Listens for both signals while a run lasts: `with Interruption() as interruption`.

    Training stops at the end of the running chunk of steps, all ranks together, once the state is saved.
    Elsewhere there is nothing to save (a checkpoint was written before the test), so the run stops at once;
    only its last words, once `patient`, are written to the end.
    """

    def __init__(self) -> None:
        self.asked = ""
        """The first signal that came."""
        self.patient = False
        self.agreed = False
        """Whether the ranks have stopped together, with no exchange under way."""
        self.checkpoints: Checkpoints
        self.stop_after: int | None = None
        """Optimizer steps, of a run that stops where another one was stopped."""
        self._signals = StopSignals(self._hear)

    @property
    def by_signal(self) -> bool:
        """Whether someone asked, and not the number of steps."""
        return self.asked not in ("", STOPPED_AFTER)

    def __enter__(self) -> Interruption:
        """Take the signals."""
        self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        self._signals.__exit__(kind, error, trace)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over from Lightning; from here on there is a state to save."""
        self._signals.listen()
        self.patient = True

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over from Lightning, which takes them at the start of each of its stages."""
        self._signals.listen()

    on_test_start = on_validation_start

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Save and stop; after an epoch's last chunk its validation comes first."""
        if self.stop_after is not None and trainer.global_step >= self.stop_after:
            self.asked = self.asked or STOPPED_AFTER
        if is_last_chunk_of_epoch(trainer):
            return
        if self._all_agree(trainer):
            self.checkpoints.save(trainer)
            self.agreed = True
            raise Interrupted(self.asked)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop here unless the run is over anyway; the epoch's checkpoint is written by now."""
        assert isinstance(pl_module, Classifier)
        if self._all_agree(trainer) and trainer.global_step < pl_module.total_steps:
            self.agreed = True
            raise Interrupted(self.asked)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on nothing is to be saved."""
        self.patient = False

    def _hear(self, number: int) -> None:
        if self._signals.insisted:
            raise KeyboardInterrupt
        self.asked = self.asked or signal.Signals(number).name
        if not self.patient:
            raise Interrupted(self.asked)

    def _all_agree(self, trainer: pl.Trainer) -> bool:
        return bool(trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False))
