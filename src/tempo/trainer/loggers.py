"""Write TensorBoard's files, and every logger's final values when a run ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from tempo.record.run_json import RunRecord, flatten

FOLDER = "tensorboard"


class TensorBoardLog(TensorBoardLogger):
    """Lightning's logger with one event file per session of the run.

    `steps_done` is None in a new run. In a resumed run it makes TensorBoard drop later points from earlier
    files, since they are logged again. TensorBoard reads files in the order of their names, which contain the
    second of their creation, so a run that is resumed within the same second waits for the next one.
    """

    def __init__(self, folder: Path, steps_done: int | None) -> None:
        super().__init__(
            save_dir=folder,
            name="",
            version=FOLDER,
            default_hp_metric=False,
            purge_step=None if steps_done is None else steps_done + 1,
        )
        while any((folder / FOLDER).glob(f"events.out.tfevents.{int(time.time())}.*")):
            time.sleep(0.05)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Write values; OSError if the file cannot be written, which Lightning would call a wrong value."""
        try:
            super().log_metrics(metrics, step)
        except ValueError as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise

    def finalize(self, status: str) -> None:
        """Write pending events but keep the file open: Lightning calls this after each fit and test."""
        if self._experiment is not None:
            self.experiment.flush()

    def close(self, status: str) -> None:
        """Close the file at the end of the run."""
        super().finalize(status)


def close_loggers(loggers: Sequence[Logger], record: RunRecord) -> None:
    """Log the configuration and final metrics, by which TensorBoard's HParams tab compares runs.

    An interrupted run has no final metrics yet; anything logged now would stay next to its later results.
    """
    if record.status != "interrupted":
        for logger in loggers:
            _log_result(logger, record)
    for logger in loggers:
        close = logger.close if isinstance(logger, TensorBoardLog) else logger.finalize
        close("success" if record.finished else "failed")


def _log_result(logger: Logger, record: RunRecord) -> None:
    plain = (int, float, str, bool)
    parameters = {k: v if isinstance(v, plain) else str(v) for k, v in flatten(record.config).items()}
    metrics = {
        f"final/{split}_{name}": value
        for split, values in record.metrics.items()
        for name, value in values.items()
    }
    logger.log_hyperparams(parameters)
    logger.log_metrics(metrics, step=record.steps)
    if isinstance(logger, TensorBoardLog):
        # Leave out the experiment description that Lightning would write. The tab would apply one run's to
        # all runs; without any, it finds by itself which parameters differ.
        _, *summaries = hparams(parameters, metrics)
        for summary in summaries:
            logger.experiment.file_writer.add_summary(summary)
