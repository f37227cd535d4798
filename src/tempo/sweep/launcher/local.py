"""A process a job on this machine, several at a time: `hydra/launcher=local`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

from hydra.core.utils import JobReturn
from omegaconf import ListConfig

from tempo.command_line.start_up import importing
from tempo.errors import UserError
from tempo.sweep.launcher.base import Interrupts, IsolatingLauncher
from tempo.sweep.launcher.forked_job import ForkedJob
from tempo.sweep.launcher.slots import slot_environments

GRACE_SECONDS = 30.0
"""What a job gets to save its state when it is asked to stop."""
_LOOK_SECONDS = 0.02


class LocalLauncher(IsolatingLauncher):
    """Forks each job from the sweep, in one of `n_jobs` slots.

    `preload` names modules that the sweep imports before the first fork: its jobs have them for nothing and
    still share no state. Torch's threads and CUDA only start in the job. On macOS, where a process that has
    loaded the system's frameworks must not fork, nothing is preloaded.
    """

    def __init__(
        self,
        n_jobs: int,
        gpus: Literal["auto"] | Sequence[int | str] | None,
        threads: int | None,
        timeout_minutes: float | None,
        preload: Sequence[str],
    ) -> None:
        super().__init__()
        for key, value in (("n_jobs", n_jobs), ("threads", threads), ("timeout_minutes", timeout_minutes)):
            kinds = (int, float) if key == "timeout_minutes" else int
            if value is None and key != "n_jobs":
                continue
            if isinstance(value, bool) or not isinstance(value, kinds) or value <= 0:
                raise UserError(f"hydra.launcher.{key}={value} must be above 0: e.g. hydra.launcher.{key}=2")
        if not (gpus is None or gpus == "auto" or (isinstance(gpus, (list, tuple, ListConfig)) and gpus)):
            raise UserError(
                f"hydra.launcher.gpus={gpus} must be auto, null or a list: hydra.launcher.gpus=[0,1]"
            )
        with importing("torch"):  # to find a module is to import those above it
            known = not isinstance(preload, str) and all(map(_can_be_found, preload))
        if not known:
            raise UserError(
                f"hydra.launcher.preload={preload}: a list of modules that can be imported, e.g. "
                "hydra.launcher.preload=[tempo.run.train]; [] = none"
            )
        self.n_jobs = n_jobs
        self.timeout_seconds = None if timeout_minutes is None else 60 * timeout_minutes
        self.preload = list(preload) if sys.platform == "linux" else []
        self.environments = slot_environments(n_jobs, gpus, threads)
        self.interrupts = Interrupts()

    one_by_one = True

    def launch(self, job_overrides: Iterable[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs, `n_jobs` at a time; each is taken from `job_overrides` when it can start.

        Raises:
            KeyboardInterrupt: the user stopped the sweep; the running jobs have saved their state.
        """
        self._preload()
        waiting = enumerate(job_overrides)
        running: list[ForkedJob] = []
        results: dict[int, JobReturn] = {}
        with self.interrupts:
            try:
                while True:
                    while len(running) < self.n_jobs and not self.interrupts.count:
                        index, overrides = next(waiting, (0, None))
                        if overrides is None:
                            break
                        running.append(self._start(index, overrides, initial_job_idx + index, running))
                    if not running:
                        break
                    time.sleep(_LOOK_SECONDS)
                    for job in [each for each in running if each.is_over()]:
                        running.remove(job)
                        results[job.index] = job.collect()
                        self.ended(job.index, results[job.index])
                    self._stop_what_must(running)
            finally:
                for job in running:
                    job.send(signal.SIGKILL)
        if self.interrupts.count:
            raise KeyboardInterrupt
        return [results[index] for index in sorted(results)]

    def _start(
        self, index: int, overrides: Sequence[str], number: int, running: list[ForkedJob]
    ) -> ForkedJob:
        taken = {job.slot for job in running}
        slot = next(each for each in range(self.n_jobs) if each not in taken)
        self.started(index)
        return ForkedJob(
            index=index,
            slot=slot,
            compose=partial(self.compose, overrides, number),
            run=self.run,
            environment=self.environments[slot],
        )

    def _stop_what_must(self, running: list[ForkedJob]) -> None:
        now = time.monotonic()
        for job in running:
            if self.interrupts.count and not job.killed_for:
                job.stop("interrupted", GRACE_SECONDS, signal.SIGINT)
            elif self.timeout_seconds and not job.killed_for and now - job.began > self.timeout_seconds:
                minutes = f"hydra.launcher.timeout_minutes={self.timeout_seconds / 60:g}"
                job.stop(f"stopped by {minutes}; the next start goes on", GRACE_SECONDS)
            if self.interrupts.count > 1 or (job.kill_at is not None and now > job.kill_at):
                job.send(signal.SIGKILL)

    def _preload(self) -> None:
        """Import for all jobs at once; libraries read the number of threads when they are loaded."""
        if not self.preload:
            return
        os.environ["OMP_NUM_THREADS"] = self.environments[0]["OMP_NUM_THREADS"]
        # NumPy's linear algebra would start threads at once, and a process with threads should not fork.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        with importing(*self.preload):
            for module in self.preload:
                try:
                    importlib.import_module(module)
                except ImportError as error:
                    raise UserError(
                        f"hydra.launcher.preload: {module} cannot be imported: {error}"
                    ) from error


def _can_be_found(module: Any) -> bool:
    try:
        return isinstance(module, str) and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
