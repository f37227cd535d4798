"""Write TensorBoard's files, keep failures of other loggers from the run, and close all when it ends."""

from __future__ import annotations

import base64
import functools
import io
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from tempo.record.read_file import read_bytes
from tempo.record.run_json import RunRecord, flatten
from tempo.record.test_images import ClassifiedImages
from tempo.trainer.trackers import MLflow, Wandb

log = logging.getLogger(__name__)

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

    def log_images(self, step: int) -> None:
        """Log the confusion matrix of the test and the wrong images that the run keeps."""
        folder = Path(self.save_dir)
        if (path := folder / "confusion.png").is_file():
            self._add_image("test/confusion", read_bytes(path), step)
        if (kept := ClassifiedImages.read(folder)) is None:
            return
        for number, image in enumerate(kept.wrong):
            name = f"{kept.classes[image.true]} taken for {kept.classes[image.predicted]}"
            self._add_image(f"test/wrong {number}: {name}", base64.b64decode(image.png), step)

    def _add_image(self, name: str, png: bytes, step: int) -> None:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        self.experiment.add_image(name, pixels, step, dataformats="HWC")

    def close(self, status: str) -> None:
        """Close the file at the end of the run."""
        super().finalize(status)


_CALLED = ("log_hyperparams", "log_metrics", "log_graph", "save", "finalize", "log_result", "close")


def keep_failures_from_run(logger: Logger, name: str) -> Logger:
    """Make the first error of a logger one warning, after which it is called no more; return the logger."""
    has_failed = False

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal has_failed
            if has_failed:
                return None
            try:
                return function(*arguments, **named)
            except Exception as error:  # noqa: BLE001 - of a server, a network, a package: anything
                has_failed = True
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                log.warning("logger.%s failed (%s); the run goes on without it", name, reason)
                return None

        return call

    for method in _CALLED:
        if hasattr(logger, method):
            setattr(logger, method, guarded(getattr(logger, method)))
    return logger


def close_loggers(loggers: Sequence[Logger], record: RunRecord) -> None:
    """Log the configuration and final metrics, by which TensorBoard's HParams tab compares runs.

    An interrupted run has no final metrics yet; anything logged now would stay next to its later results.
    """
    if record.status != "interrupted":
        for logger in loggers:
            _log_result(logger, record)
    for logger in loggers:
        close = logger.close if isinstance(logger, (TensorBoardLog, Wandb, MLflow)) else logger.finalize
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
    if isinstance(logger, (Wandb, MLflow)):
        logger.log_result()
    if isinstance(logger, TensorBoardLog):
        logger.log_images(record.steps)
        # Leave out the experiment description that Lightning would write. The tab would apply one run's to
        # all runs; without any, it finds by itself which parameters differ.
        _, *summaries = hparams(parameters, metrics)
        for summary in summaries:
            logger.experiment.file_writer.add_summary(summary)
