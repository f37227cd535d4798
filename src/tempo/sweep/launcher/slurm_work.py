"""What submitit runs on a node: one process of a job, watched over by this one."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tempo.record.atomic_write import write_atomically
from tempo.sweep.launcher.cluster_job import ClusterJob, Outcome, wait_for
from tempo.sweep.launcher.forked_job import ForkedJob
from tempo.sweep.launcher.slurm_queue import Submitted

_WAIT_FOR_WARNING_SECONDS = 2.0
_SAVING_SECONDS = 5.0


def outcome_file(folder: Path, slug: str, task: int) -> Path:
    """Where task `task` of a job says what became of it."""
    return folder / f"{slug}.{task}.outcome.json"


class SlurmWork:
    """A callable for submitit, which calls `checkpoint` when SLURM warns of the end, and requeues the job.

    The run itself is a process of its own: it can save its state while submitit's handler waits for that.
    """

    def __init__(self, job: ClusterJob, folder: Path, slug: str, signal_delay_s: int, at_limit: str) -> None:
        self.job = job
        self.folder = folder
        self.slug = slug
        self.signal_delay_s = signal_delay_s
        self.at_limit = at_limit
        """The reason of a job that came to its time limit too often."""
        self._running: ForkedJob | None = None
        self._is_cancelled = False

    def __call__(self) -> None:
        """Run this task's part; exit code 1 ends the other tasks where it has failed."""
        path = outcome_file(self.folder, self.slug, int(os.environ.get("SLURM_PROCID", "0")))
        path.unlink(missing_ok=True)  # of an attempt before it was requeued
        try:
            outcome = self._run()
        except Exception as error:  # noqa: BLE001 - submitit raises in its handler where the job is not requeued
            traceback.print_exc()
            too_often = "too many times" in str(error)
            reason = self.at_limit if too_often else f"{type(error).__name__}: {error}"
            outcome = Outcome("killed", reason, ended_unix=time.time())
        write_atomically(path, outcome.to_json() + "\n")
        if outcome.kind in ("ended", "killed") and not self._is_cancelled:
            sys.exit(1)

    def checkpoint(self) -> Any:
        """Have the run save its state and end; what submitit is to run when the job starts again."""
        if self._running is not None:
            grace = max(self.signal_delay_s - _SAVING_SECONDS, 0.5 * self.signal_delay_s)
            self._running.stop("", grace, signal.SIGTERM)
            assert self._running.kill_at is not None
            while not self._running.is_over():
                if time.monotonic() > self._running.kill_at:
                    self._running.send(signal.SIGKILL)
                time.sleep(0.05)
        again = SlurmWork(self.job, self.folder, self.slug, self.signal_delay_s, self.at_limit)
        return importlib.import_module("submitit.core.utils").DelayedSubmission(again)

    def _run(self) -> Outcome:
        running = self.job.start({})
        if isinstance(running, Outcome):
            return running
        self._running = running

        def cancel(number: int, frame: FrameType | None) -> None:
            self._is_cancelled = True
            running.send(signal.SIGTERM)

        signal.signal(signal.SIGTERM, cancel)
        outcome = wait_for(running)
        if self._is_cancelled and outcome.kind != "completed":
            time.sleep(_WAIT_FOR_WARNING_SECONDS)  # where a job makes way for another, SIGTERM comes first
            return Outcome("killed", "cancelled by SLURM (SIGTERM)", ended_unix=time.time())
        return outcome


@dataclass
class SlurmJob:
    """A job of a launch: what it is made of, and what was submitted for it."""

    index: int
    slug: str
    work: SlurmWork
    trainer: Mapping[str, Any]
    config_hash: str
    submitted: Submitted | None = None
    gone: int = 0
    """How often in a row SLURM said that it has done with the job."""

    @property
    def layout(self) -> tuple[Any, ...]:
        """Jobs of an array ask for the same."""
        return tuple(self.trainer[key] for key in ("num_nodes", "devices", "accelerator", "method"))
