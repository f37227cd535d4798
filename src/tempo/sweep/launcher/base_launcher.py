"""Base of tempo's launchers: run all jobs, even if some fail, and return every outcome."""

from __future__ import annotations

import json
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from tempo.config.schema import read_section
from tempo.errors import INTERRUPTED_CODE

Overrides = Sequence[str]
T = TypeVar("T")


def read_settings(kind: type[T], settings: Mapping[str, Any]) -> T:
    """Check the keys of `hydra.launcher` against the fields of a class, and return them typed."""
    plain: Any = OmegaConf.to_container(OmegaConf.create(dict(settings)), resolve=True)
    return read_section(kind, "hydra.launcher", plain)


@dataclass(frozen=True)
class Outcome:
    """How a job ended, as plain values that can be sent between processes and hold no network in memory."""

    kind: Literal["completed", "failed", "interrupted"]
    """`interrupted` is a job that the user stopped; one that SLURM or a time limit stopped has failed."""
    reason: str = ""
    value: Any = None
    """The job's return value: the value of the objective."""
    ended_unix: float = field(default_factory=time.time)

    @classmethod
    def from_job_return(cls, result: JobReturn) -> Outcome:
        """Return the outcome that Hydra's own result of a job describes."""
        # The public `return_value` would raise the error of a failed job.
        error = result._return_value
        if result.status != JobStatus.FAILED or not isinstance(error, BaseException):
            return cls("completed", value=error)
        if isinstance(error, KeyboardInterrupt):
            return cls("interrupted", "interrupted")
        plain = isinstance(error, CompactHydraException)  # its message needs no exception name in front
        return cls("failed", str(error) if plain else f"{type(error).__name__}: {error}")

    def as_job_return(self) -> JobReturn:
        """Return the outcome in the form that Hydra expects from a launcher."""
        result = JobReturn()
        result.status = JobStatus.COMPLETED if self.kind == "completed" else JobStatus.FAILED
        result.return_value = self.value if self.kind == "completed" else RuntimeError(self.reason)
        return result

    @classmethod
    def from_json(cls, text: str | bytes) -> Outcome:
        """Invert `to_json`."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return one line of JSON."""
        # The task may be a user's own and return anything.
        return json.dumps(asdict(self), default=repr)


class IsolatingLauncher(Launcher, ABC):
    """A launcher whose jobs cannot stop each other."""

    n_jobs: int = 1
    """Number of jobs that run at the same time."""
    one_by_one: bool = False
    """Whether `run_jobs` takes a job only when it can start, so a search draws it as late as possible."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's context, the task and the configuration for the jobs."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    @contextmanager
    def session(self, folder: Path) -> Iterator[Mapping[str, str]]:
        """Surround the launches of one sweep in its folder.

        Yields the jobs of an earlier command that are still waiting or running: name of the job's folder ->
        hash of its configuration. `run_jobs` follows these instead of starting them.
        """
        yield {}

    @abstractmethod
    def run_jobs(self, jobs: Iterable[Overrides], first_number: int = 0) -> Iterator[tuple[int, Outcome]]:
        """Run jobs, given their overrides; yield the index and the outcome of each job when it ends.

        Raises:
            KeyboardInterrupt: the user stopped the sweep, and the running jobs have saved their state.
        """

    def launch(self, job_overrides: Sequence[Overrides], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs for one of Hydra's own sweepers."""
        outcomes = {}
        for index, outcome in self.run_jobs(job_overrides, initial_job_idx):
            words = " ".join(job_overrides[index])
            print(
                f"job {initial_job_idx + index} {words}: {outcome.kind} {outcome.reason}".rstrip(), flush=True
            )
            outcomes[index] = outcome
        return [outcomes[index].as_job_return() for index in sorted(outcomes)]

    def compose(self, overrides: Overrides, number: int) -> DictConfig:
        """Return the configuration of one job, including its `hydra` node."""
        setup_globals()
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        return config

    def run(self, config: DictConfig) -> JobReturn:
        """Run one job in this process; the result holds an Exception, while SystemExit is raised."""
        try:
            return run_job(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        finally:
            # run_job has set up the job's logging for the whole process; this is the sweep's own again.
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)


def run_to_outcome(run: Callable[[], JobReturn]) -> Outcome:
    """Run a job in this process and return its outcome, whatever it raises; print an unexpected error."""
    try:
        result = run()
    except KeyboardInterrupt:
        return Outcome("interrupted", "interrupted")
    except SystemExit as end:
        if end.code == INTERRUPTED_CODE:
            return Outcome("interrupted", "interrupted")
        return Outcome("failed", f"SystemExit: {end.code}")
    except Exception as error:  # noqa: BLE001 - whatever one job raises must not reach the others
        result = JobReturn()
        result.status, result.return_value = JobStatus.FAILED, error
    outcome, raised = Outcome.from_job_return(result), result._return_value
    if outcome.kind == "failed" and not isinstance(raised, CompactHydraException):
        traceback.print_exception(raised)
    return outcome
