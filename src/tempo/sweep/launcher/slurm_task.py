"""The task that SLURM runs on a node, through submitit: it starts one process of a job and watches it."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from tempo.record.atomic_write import write_atomically
from tempo.sweep.launcher.base_launcher import Outcome
from tempo.sweep.launcher.job_process import JobProcess, PackedJob

_LOOK_SECONDS = 0.1
_WAIT_FOR_WARNING_SECONDS = 2.0
_SAVING_SECONDS = 5.0


def outcome_file(folder: Path, slug: str, task: int) -> Path:
    """Return the path at which task `task` of a job writes its outcome."""
    return folder / f"{slug}.{task}.outcome.json"


class SlurmTask:
    """A callable for submitit, which calls `checkpoint` when SLURM warns of the end, and requeues the job.

    The job runs in a separate process, so it can save its state while submitit's handler waits.
    """

    def __init__(self, job: PackedJob, folder: Path, slug: str, signal_delay_s: int, at_limit: str) -> None:
        self.job = job
        self.folder = folder
        self.slug = slug
        self.signal_delay_s = signal_delay_s
        self.at_limit = at_limit
        """Reason recorded for a job that reached its time limit too often."""
        self._running: JobProcess | None = None
        self._is_cancelled = False

    def __call__(self) -> None:
        """Run this task's part; if it fails, exit with code 1, which ends the other tasks."""
        path = outcome_file(self.folder, self.slug, int(os.environ.get("SLURM_PROCID", "0")))
        path.unlink(missing_ok=True)  # an outcome left by an attempt before the job was requeued
        try:
            outcome = self._run()
        except Exception as error:  # noqa: BLE001 - submitit raises in its handler if it does not requeue
            traceback.print_exc()
            too_often = "too many times" in str(error)
            outcome = Outcome("failed", self.at_limit if too_often else f"{type(error).__name__}: {error}")
        write_atomically(path, outcome.to_json() + "\n")
        if outcome.kind == "failed" and not self._is_cancelled:
            sys.exit(1)

    def checkpoint(self) -> Any:
        """Have the job save its state and end; return the task for submitit to run after the requeue."""
        if self._running is not None:
            grace = max(self.signal_delay_s - _SAVING_SECONDS, 0.5 * self.signal_delay_s)
            self._running.stop(Outcome("failed", "stopped by SLURM"), grace)
            while not self._running.is_over():
                time.sleep(_LOOK_SECONDS)
        again = SlurmTask(self.job, self.folder, self.slug, self.signal_delay_s, self.at_limit)
        return importlib.import_module("submitit.core.utils").DelayedSubmission(again)

    def _run(self) -> Outcome:
        running = self._running = JobProcess.on_node(self.job)

        def cancel(number: int, frame: FrameType | None) -> None:
            self._is_cancelled = True
            grace = 86_400.0  # no limit of our own: SLURM kills the job after its KillWait
            running.stop(Outcome("failed", "cancelled by SLURM (SIGTERM)"), grace)

        signal.signal(signal.SIGTERM, cancel)
        while not running.is_over():
            time.sleep(_LOOK_SECONDS)
        outcome = running.outcome()
        if self._is_cancelled and outcome.kind != "completed":
            time.sleep(_WAIT_FOR_WARNING_SECONDS)  # on preemption SIGTERM comes first, then the warning
        return outcome
