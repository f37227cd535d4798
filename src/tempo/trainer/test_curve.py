"""Test loss and accuracy by epoch, for the figures of papers that show them."""

from __future__ import annotations

from collections.abc import Iterable

import pytorch_lightning as pl
import torch
from torch import Tensor

from tempo.task.classifier import Classifier
from tempo.task.lightning_internals import precision_of_tests
from tempo.trainer.recorder import Recorder


class CurveOnTest(pl.Callback):
    """A row `test/loss`, `test/accuracy` at the end of every `every_n_epochs`-th epoch, off training's clock.

    Nothing is chosen by it: checkpoints, early stopping and sweeps do not see these values, and the result of
    the run is still the test at its end.
    """

    def __init__(
        self, recorder: Recorder, batches: Iterable[tuple[Tensor, Tensor]], every_n_epochs: int
    ) -> None:
        self.recorder = recorder
        self.batches = batches
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the test images as the test would."""
        assert isinstance(pl_module, Classifier)
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        self.recorder.pause()
        pl_module.synchronize()
        pl_module.on_test_epoch_start()
        pl_module.eval()
        with torch.no_grad(), precision_of_tests(trainer):
            for index, (images, labels) in enumerate(self.batches):
                pl_module.test_step((images.to(pl_module.device), labels.to(pl_module.device)), index)
        pl_module.train()
        found = pl_module.sums.close()
        values = {f"test/{name}": found[name] for name in ("loss", "accuracy")}
        self.recorder.write_row(trainer, pl_module, trainer.global_step, values)
        self.recorder.resume()
