"""TensorBoard's files, and what every logger gets when a run ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from tempo.record.run_json import RunRecord, flatten

FOLDER = "tensorboard"


class TensorBoardLog(TensorBoardLogger):
    """Lightning's logger with one event file per process that worked on the run.

    `steps_done` is None in a new run; in a resumed one TensorBoard drops later points of earlier files, which
    are logged again. It reads files in the order of their names, which begin with the second of their
    creation, so a run that is resumed within one second waits for the next.
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

    def finalize(self, status: str) -> None:
        """Write pending events; Lightning calls this after each fit and test, and would end the file."""
        if self._experiment is not None:
            self.experiment.flush()

    def close(self, status: str) -> None:
        """End the file together with the run."""
        super().finalize(status)


def close_loggers(loggers: Sequence[Logger], record: RunRecord) -> None:
    """Log the configuration and final metrics, by which TensorBoard's HParams tab compares runs.

    An interrupted run has no final metrics yet; anything logged now would stay next to those of its end.
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
        # Leave out the description of the experiment that Lightning would write: the tab uses one run's for
        # all runs, and without it finds out by itself which parameters differ.
        _, *summaries = hparams(parameters, metrics)
        for summary in summaries:
            logger.experiment.file_writer.add_summary(summary)
