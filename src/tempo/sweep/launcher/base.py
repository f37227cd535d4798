"""What the launchers of tempo share: one job of Hydra, and telling the sweeper when each begins and ends."""

from __future__ import annotations

import signal
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class JobEnded(Exception):  # noqa: N818 - some ends are no errors
    """A job is over without a result and without an exception."""


class JobKilled(JobEnded):
    """The process of a job was ended from outside, and could not say so itself."""


class JobInterrupted(JobEnded):
    """The user stopped a job, which has saved its state and said so in its record."""


class IsolatingLauncher(Launcher, ABC):
    """A launcher that runs all jobs whatever becomes of some, and returns a JobReturn for each.

    `started` and `ended` are called with the index of a job among those of `launch`, in the sweep's process.
    """

    n_jobs: int = 1
    one_by_one: bool = False
    """Whether `launch` takes its jobs one by one, each when it can start: they need not be known before."""

    def __init__(self) -> None:
        self.started: Callable[[int], None] = lambda index: None
        self.ended: Callable[[int, JobReturn], None] = lambda index, result: None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a job is made of."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    @contextmanager
    def session(self, folder: Path) -> Iterator[Mapping[str, str]]:
        """What surrounds the launches of one sweep in its folder.

        Yields the jobs of an earlier command that are still waiting or at work, where such can be: name of
        the job's folder -> hash of its configuration. `launch` takes these up instead of starting them.
        """
        yield {}

    def compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The configuration of one job, its `hydra` node with it."""
        setup_globals()
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        return config

    def run(self, config: DictConfig) -> JobReturn:
        """Run one job in this process; an Exception is kept in the result, an exit passes through."""
        try:
            return run_job(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        finally:
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)


class Interrupts:
    """Counts the requests to stop while it is entered: a job is never started or collected by halves."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        """Take Ctrl-C and SIGTERM."""
        self.count = 0
        self._before = {
            number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


def failed(error: BaseException) -> JobReturn:
    """The result of a job that has none."""
    result = JobReturn()
    result.status = JobStatus.FAILED
    result.return_value = error
    return result


def failure(result: JobReturn) -> BaseException | None:
    """The error that ended a job, None where it returned."""
    error = result._return_value
    return error if result.status == JobStatus.FAILED and isinstance(error, BaseException) else None
