"""Submit jobs to SLURM as arrays, using submitit, and follow them: `hydra/launcher=slurm`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tempo.config.check import check
from tempo.config.resolve_interpolations import composed
from tempo.config.schema import TrainerConfig, key
from tempo.distributed.interrupt_counter import StopSignals
from tempo.errors import UserError
from tempo.paths import IS_INSTALLED, SOURCE
from tempo.record.read_file import read_text
from tempo.record.run_json import config_hash
from tempo.sweep.launcher.base_launcher import IsolatingLauncher, Outcome, Overrides, read_settings
from tempo.sweep.launcher.job_process import PackedJob
from tempo.sweep.launcher.slurm_job_states import (
    QueuedJob,
    Submitted,
    SubmittedJobs,
    cancel,
    largest_array,
    queue,
)
from tempo.sweep.launcher.slurm_task import SlurmTask, outcome_file
from tempo.sweep.progress import say

_LOOK_SECONDS = 0.5
_PROGRAMS = ("sbatch", "srun", "squeue", "scontrol", "scancel")


@dataclass(frozen=True, kw_only=True)
class SlurmSettings:
    """The keys of conf/hydra/launcher/slurm.yaml; None leaves a choice to the cluster."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_minutes: int = key(240, at_least=1)
    signal_delay_s: int = key(90, at_least=1)
    max_num_timeout: int = key(3, at_least=0)
    cpus_per_task: int = key(4, at_least=1)
    gpus_per_node: Literal["auto"] | int | str | None = "auto"
    mem: str | None = None
    array_parallelism: int = key(16, at_least=1)
    job_name: str = "tempo"
    setup: list[str] = field(default_factory=list)
    srun_args: list[str] = field(default_factory=list)
    additional_parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.signal_delay_s >= 60 * self.timeout_minutes:
            raise UserError(
                f"hydra.launcher.signal_delay_s={self.signal_delay_s} warns a job of {self.timeout_minutes} "
                "minutes before it begins; set hydra.launcher.signal_delay_s="
                f"{max(1, 20 * self.timeout_minutes)}, or a longer hydra.launcher.timeout_minutes"
            )

    def parameters(self, trainer: TrainerConfig) -> dict[str, Any]:
        """Return the parameters of submitit for jobs of this layout: one task per process of the run."""
        nodes, tasks = trainer.num_nodes, trainer.exchange.tasks_per_node
        cpus = self.cpus_per_task * trainer.devices // tasks
        gpus = self.gpus_per_node
        if gpus == "auto":
            gpus = trainer.devices if trainer.accelerator == "gpu" else None
        # Since SLURM 22.05 srun does not inherit the CPUs that sbatch was given.
        srun_args = [f"--cpus-per-task={cpus}", *self.srun_args]
        if nodes * tasks > 1:  # otherwise processes would wait forever for one that has failed
            srun_args = ["--kill-on-bad-exit=1", *srun_args]
        setup = [
            *([] if IS_INSTALLED else [f'export PYTHONPATH="{SOURCE}${{PYTHONPATH:+:$PYTHONPATH}}"']),
            f'export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{self.cpus_per_task}}}"',
        ]
        named = asdict(self)
        plain = ("partition", "account", "qos", "constraint", "mem", "job_name")
        return {
            **{key: named[key] for key in (*plain, "signal_delay_s", "array_parallelism")},
            "time": self.timeout_minutes,
            "nodes": nodes,
            "ntasks_per_node": tasks,
            "cpus_per_task": cpus,
            "gpus_per_node": gpus,
            "setup": [*setup, *self.setup],
            "srun_args": srun_args,
            "additional_parameters": {"requeue": True, **self.additional_parameters},
        }


@dataclass
class FollowedJob:
    """A job of this command, and its entry in the queue once it is submitted."""

    index: int
    slug: str
    task: SlurmTask
    trainer: TrainerConfig
    config_hash: str
    submitted: Submitted | None = None
    times_gone: int = 0
    """Number of checks in a row in which the queue did not have the job, or had it as ended."""

    @property
    def layout(self) -> tuple[Any, ...]:
        """Resources that the jobs of one array have in common."""
        trainer = self.trainer
        return trainer.num_nodes, trainer.devices, trainer.accelerator, trainer.method

    @property
    def n_tasks(self) -> int:
        """Number of processes that SLURM starts for the job."""
        return self.trainer.num_nodes * self.trainer.exchange.tasks_per_node


class SlurmLauncher(IsolatingLauncher):
    """Submit all jobs, one array per layout, and wait until SLURM has ended each job.

    A job's trainer.devices and trainer.num_nodes set its numbers of tasks and nodes. Its outcome is read from
    files in `<sweep>/slurm` or, if it was killed before it could write one, from squeue. The jobs outlive
    this process; rerun the command to wait for them.

    Raises:
        UserError: submitit is not installed, SLURM's commands are not on the PATH, or a setting cannot work.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = read_settings(SlurmSettings, settings)
        if importlib.util.find_spec("submitit") is None:
            raise UserError("the package submitit is not installed: pip install -e '.[slurm]'")
        if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
            raise UserError(
                f"hydra/launcher=slurm needs {', '.join(missing)}, not found on the PATH; start the sweep on "
                "a machine that submits to SLURM, or use hydra/launcher=local"
            )
        self.n_jobs = self.settings.array_parallelism
        self.in_queue: dict[str, Submitted] = {}

    @contextmanager
    def session(self, folder: Path) -> Iterator[Mapping[str, str]]:
        """Find the jobs of an earlier command that are still in the queue."""
        self.folder = folder / "slurm"
        self.folder.mkdir(exist_ok=True)
        self.submitted_jobs = SubmittedJobs(self.folder)
        if self.submitted_jobs.read():
            found = queue()
            if lost := self.submitted_jobs.complete(found):
                cancel(lost)
            self.in_queue = {
                slug: entry
                for slug, entry in self.submitted_jobs.read().items()
                if entry.job in found and not found[entry.job].is_over
            }
            if self.in_queue:
                ids = _ids(self.in_queue.values())
                n = len(self.in_queue)
                say(f"{n} job{'s' * (n != 1)} found in the queue: {ids}")
        yield {slug: entry.config_hash for slug, entry in self.in_queue.items()}

    def run_jobs(self, jobs: Iterable[Overrides], first_number: int = 0) -> Iterator[tuple[int, Outcome]]:
        """Submit the jobs that are not in the queue, and wait for all; see `IsolatingLauncher.run_jobs`.

        Raises:
            UserError: sbatch refused a job.
            KeyboardInterrupt: the user stopped waiting; the jobs stay in SLURM.
        """
        with StopSignals() as signals:
            followed = [
                self._prepare(index, overrides, first_number + index) for index, overrides in enumerate(jobs)
            ]
            for job in followed:
                job.submitted = self.in_queue.pop(job.slug, None)
            self._submit([job for job in followed if job.submitted is None])
            yield from self._follow(followed, signals)

    def _prepare(self, index: int, overrides: Overrides, number: int) -> FollowedJob:
        config = self.compose(overrides, number)
        values, slug = composed(config), str(config.hydra.sweep.subdir)
        settings = self.settings
        at_limit = (
            f"stopped by hydra.launcher.timeout_minutes={settings.timeout_minutes} after "
            f"{settings.max_num_timeout} more starts (hydra.launcher.max_num_timeout); rerun to resume"
        )
        packed = PackedJob.pack(config, self.task_function)
        task = SlurmTask(packed, self.folder, slug, settings.signal_delay_s, at_limit)
        return FollowedJob(index, slug, task, check(values).trainer, config_hash(values))

    def _submit(self, jobs: list[FollowedJob]) -> None:
        by_layout: dict[tuple[Any, ...], list[FollowedJob]] = {}
        for job in jobs:
            by_layout.setdefault(job.layout, []).append(job)
            for task in range(job.n_tasks):
                # Left by an earlier command, it would count as this one's.
                outcome_file(self.folder, job.slug, task).unlink(missing_ok=True)
        size = largest_array() if jobs else 1
        for alike in by_layout.values():
            for first in range(0, len(alike), size):
                self._submit_array(alike[first : first + size])

    def _submit_array(self, jobs: list[FollowedJob]) -> None:
        submitit = importlib.import_module("submitit")
        executor = submitit.SlurmExecutor(folder=self.folder, max_num_timeout=self.settings.max_num_timeout)
        entries = {job.slug: Submitted("", job.n_tasks, job.config_hash, time.time()) for job in jobs}
        self.submitted_jobs.intend(entries)
        try:
            executor.update_parameters(**self.settings.parameters(jobs[0].trainer))
            with contextlib.redirect_stderr(io.StringIO()):  # the error below has the same text
                handles = executor.submit_array([job.task for job in jobs])
        except Exception as error:
            raise UserError(f"sbatch has refused: {str(error) or type(error).__name__}") from error
        for job, handle in zip(jobs, handles, strict=True):
            job.submitted = Submitted(handle.job_id, job.n_tasks, job.config_hash, time.time())
            entries[job.slug] = job.submitted
        self.submitted_jobs.write({**self.submitted_jobs.read(), **entries})
        array = handles[0].job_id.partition("_")[0]
        say(f"SLURM job {array}: {len(jobs)} job{'s' * (len(jobs) != 1)} submitted")

    def _follow(self, jobs: list[FollowedJob], signals: StopSignals) -> Iterator[tuple[int, Outcome]]:
        waiting, complaint = list(jobs), ""
        began = next_look = time.monotonic()
        while waiting:
            if signals.asked:
                ids = _ids(job.submitted for job in waiting if job.submitted is not None)
                say(f"the jobs stay in SLURM; rerun to wait for them, or cancel with: scancel {ids}")
                raise KeyboardInterrupt
            found, now = None, time.monotonic()
            if now >= next_look:  # every two seconds at first, later twice a minute
                next_look = now + min(30.0, max(2.0, (now - began) / 20))
                try:
                    found, complaint = queue(), ""
                except UserError as error:  # jobs survive the restart of a controller
                    if complaint != (complaint := str(error)):
                        say(f"{complaint}: asking again until it answers")
            for job in list(waiting):
                if (outcome := self._outcome(job, found)) is not None:
                    waiting.remove(job)
                    yield job.index, outcome
            if waiting:
                time.sleep(_LOOK_SECONDS)

    def _outcome(self, job: FollowedJob, found: Mapping[str, QueuedJob] | None) -> Outcome | None:
        """Return the outcome of a job; None as long as it may continue."""
        assert job.submitted is not None
        outcomes = self._written_outcomes(job)
        if 0 in outcomes and outcomes[0].kind == "completed":
            return outcomes[0]
        if found is None:
            return None
        entry = found.get(job.submitted.job)
        if entry is not None and entry.never_starts:
            cancel([job.submitted.job])
            nodes = f"{job.trainer.num_nodes} nodes x {job.trainer.exchange.tasks_per_node} tasks"
            return Outcome("failed", f"SLURM would never start it ({entry.reason}): it asks for {nodes}")
        # A requeued job looks ended for a moment, and its outcome may arrive late over a network disk.
        job.times_gone = job.times_gone + 1 if entry is None or entry.is_over else 0
        if job.times_gone < 2:
            return None
        if outcomes:  # the first task to end is the cause: its end made SLURM end the others
            task, first = min(outcomes.items(), key=lambda item: item[1].ended_unix)
            if first.kind != "completed":
                return Outcome("failed", f"task {task}: {first.reason}" if task else first.reason)
        state = entry.state if entry else "and SLURM has forgotten it"
        reason = f"SLURM job {job.submitted.job} was ended from outside, {state}"
        return Outcome("failed", f"{reason}; see {self.folder}/{job.submitted.job}_0_log.err")

    def _written_outcomes(self, job: FollowedJob) -> dict[int, Outcome]:
        found = {}
        for task in range(job.submitted.tasks if job.submitted else 0):
            with contextlib.suppress(FileNotFoundError):
                text = read_text(outcome_file(self.folder, job.slug, task))
                found[task] = Outcome.from_json(text)
        return found


def _ids(jobs: Iterable[Submitted]) -> str:
    """Return ids for scancel, such as `12 15_3`; for more than three jobs, only the ids of their arrays."""
    ids = [entry.job for entry in jobs]
    arrays = dict.fromkeys(job.partition("_")[0] for job in ids)
    return " ".join(arrays if len(ids) > 3 else ids)
