"""Run each job in its own process on this machine, several at a time: `hydra/launcher=local`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from tempo.command_line.start_up import importing
from tempo.config.schema import key
from tempo.distributed.interrupt_counter import StopSignals
from tempo.errors import UserError
from tempo.sweep.launcher.base_launcher import IsolatingLauncher, Outcome, Overrides, read_settings
from tempo.sweep.launcher.job_process import GRACE_SECONDS, JobProcess

_LOOK_SECONDS = 0.02
Gpus = Literal["auto"] | Sequence[int | str] | None


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """The keys of conf/hydra/launcher/local.yaml."""

    n_jobs: int = key(2, at_least=1)
    gpus: Literal["auto"] | list[int | str] | None = "auto"
    threads: int | None = key(None, at_least=1)
    timeout_minutes: float | None = key(None, above=0)
    preload: list[str] = field(default_factory=lambda: ["tempo.run.train", "torch.utils.tensorboard"])


class LocalLauncher(IsolatingLauncher):
    """Fork each job from the sweep, in one of `n_jobs` slots.

    `preload` names modules that the sweep imports before the first fork, so that its jobs need not import
    them again; they still share no state. Torch's threads and CUDA start only in the job. On macOS nothing is
    preloaded, because a process that has loaded the system's frameworks must not fork.
    """

    one_by_one = True

    def __init__(self, **settings: Any) -> None:
        self.settings = read_settings(LocalSettings, settings)
        self.n_jobs, preload = self.settings.n_jobs, self.settings.preload
        if self.settings.gpus == []:
            raise UserError("hydra.launcher.gpus=[] names no GPU; set e.g. hydra.launcher.gpus=[0,1]")
        with importing("torch"):  # finding a module imports its parent packages
            lost = next((module for module in preload if not _can_be_found(module)), None)
        if lost is not None:
            raise UserError(
                f"hydra.launcher.preload: the module {lost} cannot be found; set "
                "hydra.launcher.preload=[tempo.run.train], or [] for none"
            )
        self.preload = preload if sys.platform == "linux" else []
        self.environments = slot_environments(self.n_jobs, self.settings.gpus, self.settings.threads)

    def run_jobs(self, jobs: Iterable[Overrides], first_number: int = 0) -> Iterator[tuple[int, Outcome]]:
        """Run the jobs, each when a slot is free; see `IsolatingLauncher.run_jobs`."""
        self._preload()
        waiting = enumerate(jobs)
        running: dict[int, JobProcess] = {}
        slots: dict[int, int] = {}
        with StopSignals() as signals:
            try:
                while True:
                    while len(running) < self.n_jobs and not signals.asked:
                        index, overrides = next(waiting, (0, None))
                        if overrides is None:
                            break
                        slots[index] = min({*range(self.n_jobs)} - {slots[other] for other in running})
                        compose = partial(self.compose, overrides, first_number + index)
                        running[index] = JobProcess.fork(compose, self.run, self.environments[slots[index]])
                    if not running:
                        break
                    time.sleep(_LOOK_SECONDS)
                    for index in [index for index, job in running.items() if job.is_over()]:
                        yield index, running.pop(index).outcome()
                    self._stop_late(running.values(), signals)
            finally:
                for job in running.values():
                    job.kill()
        if signals.asked:
            raise KeyboardInterrupt

    def _stop_late(self, jobs: Iterable[JobProcess], signals: StopSignals) -> None:
        minutes = self.settings.timeout_minutes
        for job in jobs:
            if signals.asked:
                job.stop(Outcome("interrupted", "interrupted"), GRACE_SECONDS, signal.SIGINT)
            elif minutes and time.monotonic() - job.began > 60 * minutes:
                limit = f"hydra.launcher.timeout_minutes={minutes:g}"
                job.stop(Outcome("failed", f"stopped by {limit}; rerun to resume"), GRACE_SECONDS)
            if signals.insisted:
                job.kill()

    def _preload(self) -> None:
        """Import modules for all jobs; libraries read the number of threads when they are loaded."""
        if not self.preload:
            return
        # All slots have the same number of threads.
        os.environ["OMP_NUM_THREADS"] = self.environments[0]["OMP_NUM_THREADS"]
        # On import, NumPy's linear algebra would start threads, and a process with threads should not fork.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        with importing(*self.preload):
            for module in self.preload:
                try:
                    importlib.import_module(module)
                except ImportError as error:
                    raise UserError(
                        f"hydra.launcher.preload: {module} cannot be imported ({error}); install what is "
                        "missing, or leave the module out"
                    ) from error


def slot_environments(n_jobs: int, gpus: Gpus, threads: int | None) -> list[dict[str, str]]:
    """Return the environment variables of each of `n_jobs` slots: its share of GPUs and CPU threads.

    With fewer GPUs than slots, several slots share a GPU.
    """
    names = visible_gpus() if gpus == "auto" else None if gpus is None else [str(gpu) for gpu in gpus]
    if threads is None:
        given = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(given) if given.isdigit() else max(1, cores() // n_jobs)
    environments = [{"OMP_NUM_THREADS": str(threads)} for _ in range(n_jobs)]
    for slot, environment in enumerate(environments if names else []):
        assert names
        mine = names[slot::n_jobs] or [names[slot % len(names)]]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    return environments


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that CUDA would see, without loading CUDA, after which a process cannot fork."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split() if done.returncode == 0 else []


def _can_be_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
