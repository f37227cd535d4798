"""Ends a run that gains no more."""

from __future__ import annotations

import pytorch_lightning as pl


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's own, judged after each validation, that a resumed run does not forget."""

    def __init__(self, *, monitor: str, mode: str, patience: int, min_delta: float) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            patience=patience,
            min_delta=min_delta,
            # At an epoch's end a resumed run may have no validation behind it yet.
            check_on_train_epoch_end=False,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once where the run had been stopped before it was killed: a checkpoint does not say so."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
