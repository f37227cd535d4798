"""Save and stop all ranks together on SIGTERM or Ctrl-C; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
from types import TracebackType
from typing import Any

import pytorch_lightning as pl

from tempo.distributed.collectives import any_rank
from tempo.distributed.interrupt_counter import StopSignals
from tempo.task.late_callback import LateCallback
from tempo.task.lightning_internals import is_last_chunk_of_epoch
from tempo.trainer.checkpoints import Checkpoints

STOPPED_AFTER = "the step to stop after"
"""Reason of a stop at a given number of steps."""


class Interrupted(BaseException):
    """Ends a run that was asked to stop; like KeyboardInterrupt, it is not caught by `except Exception`."""


class StopOnSignal(LateCallback):
    """Handles both signals while entered: `with StopOnSignal() as stop`.

    During training, all ranks stop together at the end of the running chunk of steps, after saving the state.
    Before and after training there is nothing to save, so the run stops at once, unless it is `patient`
    because it is writing its record.
    """

    def __init__(self) -> None:
        self.asked = ""
        """Name of the first signal, or STOPPED_AFTER."""
        self.patient = False
        """Whether to finish the current work before stopping."""
        self.agreed = False
        """Whether all ranks stopped together, so that none waits in an exchange."""
        self.checkpoints: Checkpoints
        self.stop_after: int | None = None
        """Number of optimizer steps after which to stop, as the reproduced run did."""
        self._signals = StopSignals(self._hear)

    @property
    def by_signal(self) -> bool:
        """Whether a signal, not the number of steps, asked to stop."""
        return self.asked not in ("", STOPPED_AFTER)

    def __enter__(self) -> StopOnSignal:
        """Start handling the signals."""
        self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the handlers that were there before."""
        self._signals.__exit__(kind, error, trace)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back from Lightning; from here on there is a state to save."""
        self._signals.listen()
        self.patient = True

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back from Lightning, which claims them at the start of each stage."""
        self._signals.listen()

    on_test_start = on_validation_start

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Save and stop if asked, except after an epoch's last chunk, which is validated first."""
        if self.stop_after is not None and self.checkpoints.progress.steps_done >= self.stop_after:
            self.asked = self.asked or STOPPED_AFTER
        if self.checkpoints.progress.micro_batches_done or is_last_chunk_of_epoch(trainer):
            return
        if any_rank(trainer.strategy, bool(self.asked)):
            if self.checkpoints.progress.is_exact:
                self.checkpoints.save(trainer)
            self._stop()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after the epoch's checkpoint is written, unless this was the last step anyway."""
        progress = self.checkpoints.progress
        if any_rank(trainer.strategy, bool(self.asked)) and progress.steps_done < progress.total_steps:
            self._stop()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let signals stop the run at once from here on: no more steps are taken."""
        self.patient = False

    def _stop(self) -> None:
        self.agreed = True
        raise Interrupted(self.asked)

    def _hear(self, number: int) -> None:
        if self._signals.insisted:
            raise KeyboardInterrupt
        self.asked = self.asked or signal.Signals(number).name
        if not self.patient:
            raise Interrupted(self.asked)
