"""Write the record, metrics.csv and the configured loggers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from tempo.data.run_data_module import RunDataModule
from tempo.distributed.collectives import mean_over_ranks
from tempo.record.run_json import RunRecord
from tempo.task.classifier import Classifier
from tempo.task.late_callback import LateCallback
from tempo.task.lightning_internals import precision_of_tests
from tempo.task.loss_window import Interval
from tempo.task.progress import Progress
from tempo.trainer.metrics_csv import STEP_COLUMNS, MetricsFile, Written, columns_of
from tempo.trainer.stopping_rules import DivergenceWatch

log = logging.getLogger(__name__)

Listener = Callable[[dict[str, float]], None]


class Recorder(LateCallback):
    """Reads the losses once per interval, looks for divergence, and writes rows and record.

    `seconds.train` excludes the start, validation and checkpoints. With `trainer.compile`, the first call
    counts as `seconds.compile` instead, and its steps are left out of the speed. Rows have the learning rate
    and momentum of their last step.
    """

    def __init__(
        self,
        *,
        record: RunRecord,
        folder: Path,
        progress: Progress,
        divergence: DivergenceWatch,
        metrics: Sequence[str],
        compiles: bool,
        logs_metrics: bool,
    ) -> None:
        self.record = record
        self.progress = progress
        self.folder = folder
        self.divergence = divergence
        self.logs_metrics = logs_metrics
        """Whether loggers get the metrics from here; a user's module logs its own by `self.log`."""
        self.metrics_file = MetricsFile(folder, columns_of(metrics) if logs_metrics else STEP_COLUMNS)
        self.listeners: list[Listener] = []
        """Called with each row of metrics.csv, on rank 0."""
        self.train_seconds = 0.0
        self.compile_seconds = 0.0
        self.evaluations_compiling = 0
        self.validated_step = -1
        """Optimizer steps done at the last validation."""
        self._compiling = compiles
        """Whether the next call of the training step compiles the network."""
        self._since: float | None = None
        self._is_open = False
        self._saved_rows: Written | None = None
        """The rows of metrics.csv that belong to the resumed state."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {
            "train_seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "evaluations_compiling": self.evaluations_compiling,
            "validated_step": self.validated_step,
            "divergence": self.divergence.state_dict(),
            "metrics_file": list(self.metrics_file.written),
            "metrics": {split: dict(values) for split, values in self.record.metrics.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`; a checkpoint that no run saved raises here, before the first step."""
        self.train_seconds = float(state_dict["train_seconds"])
        self.compile_seconds = float(state_dict["compile_seconds"])
        self.evaluations_compiling = int(state_dict["evaluations_compiling"])
        self.validated_step = int(state_dict["validated_step"])
        self.divergence.load_state_dict(state_dict["divergence"])
        rows, sha256 = state_dict.get("metrics_file", (None, None))  # older checkpoints do not have it
        self._saved_rows = None if rows is None else Written(int(rows), str(sha256))
        self.record.metrics = {
            str(split): {str(name): float(value) for name, value in values.items()}
            for split, values in state_dict["metrics"].items()
        }

    @property
    def seconds(self) -> float:
        """Seconds of training so far, excluding compilation."""
        return self.train_seconds + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the files and start the clock."""
        self._open(trainer)
        self._evaluations_before = self.progress.evaluations
        self.resume()

    def _open(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero or self._is_open:
            return
        self._is_open = True
        if lost := self.metrics_file.start(self.progress.steps_done, self.validated_step, self._saved_rows):
            log.warning(lost)
            self.record.sessions[-1]["metrics_csv"] = lost

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Read the losses when an interval is complete."""
        if self._compiling:
            self._end_compiling(pl_module)
        if self.progress.window.due:
            self.flush(trainer)

    def _end_compiling(self, module: pl.LightningModule) -> None:
        """Count the first call in this process as compilation, waiting once for the device to finish."""
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        before = self.train_seconds
        self.pause()
        self.compile_seconds += self.train_seconds - before
        self.train_seconds = before
        self.evaluations_compiling += self.progress.evaluations - self._evaluations_before
        self._compiling = False
        self.resume()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock after reading the losses, which waits for the device to finish."""
        if trainer.state.fn == "fit":
            self.close_interval(trainer)
            self.pause()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row of a validation and the record so far."""
        self.validated_step = self.progress.steps_done
        values = dict(self.progress.evaluated)
        self.record.metrics["val"] = values
        self.write_row(trainer, self.validated_step, {f"val/{name}": value for name, value in values.items()})
        self.write_record(trainer)
        if trainer.state.fn == "fit":
            self.resume()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the current interval, so that each epoch ends with a row."""
        self.close_interval(trainer)
        if found := self.progress.epoch_metrics:
            self.record.metrics["train"] = {**self.record.metrics.get("train", {}), **found}
            values = {f"train/{name}": value for name, value in found.items()}
            self.write_row(trainer, self.progress.steps_done, values)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock and write the record."""
        self._open(trainer)  # a run resumed after its last step never starts training
        self.pause()
        self.write_record(trainer)

    def flush_to_disk(self, trainer: pl.Trainer) -> None:
        """Flush everything logged to the disk, so that no checkpoint survives without its earlier rows."""
        self.metrics_file.flush_to_disk()
        for logger in trainer.loggers:
            logger.save()  # TensorBoard's logger keeps two minutes of events in memory

    def pause(self) -> None:
        """Stop the training clock."""
        self.train_seconds, self._since = self.seconds, None

    def resume(self) -> None:
        """Start the training clock again."""
        self._since = time.perf_counter()

    def flush(self, trainer: pl.Trainer) -> None:
        """Copy the losses to the host and write complete intervals; raise `Diverged` if the run diverged."""
        reduce = partial(mean_over_ranks, trainer.strategy) if trainer.world_size > 1 else None
        first_step, losses, intervals = self.progress.window.flush(reduce)
        for interval in intervals:
            self._write_interval(trainer, interval)
        self.divergence.look(first_step, losses)

    def close_interval(self, trainer: pl.Trainer) -> None:
        """Read the losses and write the interval that an epoch's end or a validation cuts short."""
        self.flush(trainer)
        if (rest := self.progress.window.close(self.progress.steps_done)) is not None:
            self._write_interval(trainer, rest)

    def _write_interval(self, trainer: pl.Trainer, interval: Interval) -> None:
        found = {**interval.means, **self.progress.logged.pop(interval.steps_done, {})}
        self.record.metrics["train"] = {**self.record.metrics.get("train", {}), **found}
        values = {f"train/{name}": value for name, value in found.items()}
        values |= self.progress.scheduled(interval.steps_done)
        self.write_row(trainer, interval.steps_done, values)

    def write_row(self, trainer: pl.Trainer, step: int, values: dict[str, float]) -> None:
        """Add a row to metrics.csv and pass it to loggers and listeners."""
        if not trainer.is_global_zero:
            return
        epoch = step / self.progress.plan.steps_per_epoch
        row = {"step": step, "epoch": epoch, "seconds": self.seconds, **values}
        self.metrics_file.append(row)
        if not self.logs_metrics:
            logged = trainer.callback_metrics
            values = {
                name: value for name, value in values.items() if name in ("lr", "momentum", "train/loss")
            }
            values = {name: value for name, value in values.items() if name not in logged}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)
        for listener in self.listeners:
            listener(row)

    def write_record(self, trainer: pl.Trainer) -> None:
        """Update steps, epochs and speed in the record and replace run.json."""
        record, progress = self.record, self.progress
        record.steps = progress.steps_done
        record.evaluations = progress.evaluations
        record.epochs = progress.epochs_done
        record.seconds["train"] = self.seconds
        if self.compile_seconds:
            record.seconds["compile"] = self.compile_seconds
        counted = record.evaluations - self.evaluations_compiling
        if self.seconds:
            record.images_per_second = counted * progress.plan.total_batch_size / self.seconds
        if trainer.is_global_zero:
            record.write(self.folder)


class CurveOnTest(LateCallback):
    """Writes `test/loss` and `test/accuracy` after every `every_n_epochs`-th epoch, with the clock stopped.

    It serves to redraw papers' figures that show them. Checkpoints, early stopping and sweeps do not use
    these values, and the result of the run is still the test at its end.
    """

    def __init__(self, recorder: Recorder, data: RunDataModule, every_n_epochs: int) -> None:
        self.recorder = recorder
        self.data = data
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate the test images in the same way as the final test."""
        assert isinstance(pl_module, Classifier)  # any other module is refused by `check_own_module`
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        self.recorder.pause()
        pl_module.synchronize()
        pl_module.on_test_epoch_start()
        trained = [part for part in pl_module.modules() if part.training]  # frozen parts are not
        pl_module.eval()
        with torch.no_grad(), precision_of_tests(trainer):
            for index, (images, labels) in enumerate(self.data.test_dataloader()):
                pl_module.test_step((images.to(pl_module.device), labels.to(pl_module.device)), index)
        for part in trained:
            part.training = True
        values = {f"test/{name}": value for name, value in pl_module.sums.close().items()}
        self.recorder.write_row(trainer, self.recorder.progress.steps_done, values)
        self.recorder.resume()
