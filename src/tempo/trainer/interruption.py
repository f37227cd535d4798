"""SIGTERM and Ctrl-C: save the state, then stop; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from tempo.trainer.checkpoints import Checkpoints
from tempo.trainer.module import Classifier


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """Ends the fit after the state was saved."""


class Interruption(pl.Callback):
    """Asks for a stop at the end of the running chunk of steps; all ranks stop together."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.asked = ""
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over from Lightning, which would end the process without saving."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Save and stop; after an epoch's last chunk its validation comes first."""
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        if self._all_agree(trainer):
            self.checkpoints.save(trainer)
            raise Interrupted(self.asked)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop here unless the run is over anyway; the epoch's checkpoint is written by now."""
        assert isinstance(pl_module, Classifier)
        if self._all_agree(trainer) and trainer.global_step < pl_module.total_steps:
            raise Interrupted(self.asked)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        self.release()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self.release()

    def release(self) -> None:
        """Put the handlers back that were there before the fit."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name

    def _all_agree(self, trainer: pl.Trainer) -> bool:
        return bool(trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False))
