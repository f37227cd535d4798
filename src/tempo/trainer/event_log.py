"""TensorBoard's events of a run: one file for each process that worked on it, in the order of their work."""

from __future__ import annotations

import time
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger

FOLDER = "tensorboard"


class EventLog(TensorBoardLogger):
    """Lightning's logger with one file a session; `steps_done` of a run that is resumed, else None.

    TensorBoard reads the files of a folder in the order of their names, which have the second and the process
    in which they began, and what a later file takes back of an earlier one (steps that are taken again) goes
    by that order. So no file begins in the second of another one: a run that is resumed at once waits for the
    next.
    """

    def __init__(self, folder: Path, steps_done: int | None) -> None:
        super().__init__(
            save_dir=folder,
            name="",
            version=FOLDER,
            default_hp_metric=False,
            purge_step=None if steps_done is None else steps_done + 1,
        )
        for events in (folder / FOLDER).glob("events.out.tfevents.*"):
            second = events.name.split(".")[3]
            if second.isdecimal():
                time.sleep(min(1.0, max(0.0, int(second) + 1 - time.time())))

    def finalize(self, status: str) -> None:
        """Write what waits; Lightning calls this after each fit and test, and would begin a new file."""
        if self._experiment is not None:
            self.experiment.flush()

    def close(self, status: str) -> None:
        """End the file with the run."""
        super().finalize(status)
