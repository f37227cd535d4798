"""Jobs of a sweep as arrays of SLURM: `hydra/launcher=slurm`, with submitit underneath."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from tempo.config.resolve import composed
from tempo.config.signature import check_types, signature_of
from tempo.errors import UserError
from tempo.record.run_json import config_hash
from tempo.sweep.launcher.base import Interrupts, IsolatingLauncher, JobKilled, failed
from tempo.sweep.launcher.cluster_job import ClusterJob, Outcome
from tempo.sweep.launcher.slurm_queue import JobIds, Place, Submitted, Watch, cancel, largest_array, queue
from tempo.sweep.launcher.slurm_settings import SlurmSettings, tasks_per_node
from tempo.sweep.launcher.slurm_work import SlurmJob, SlurmWork, outcome_file

_LOOK_SECONDS = 0.5
_PROGRAMS = ("sbatch", "srun", "squeue", "scontrol", "scancel")


class SlurmLauncher(IsolatingLauncher):
    """Submits all jobs, those of one layout as an array, and waits until SLURM has done with each.

    trainer.devices x trainer.num_nodes of a job become tasks and nodes. What became of a job is read from
    files in `<sweep>/slurm` and, where a job was killed and could write none, from squeue. The jobs outlive
    this process: the same command finds them again.

    Raises:
        UserError: submitit is not installed, or SLURM's commands are not on the PATH; a setting that cannot
            work.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        plain = OmegaConf.to_container(OmegaConf.create(settings), resolve=True)
        assert isinstance(plain, dict)
        values = {str(key): value for key, value in plain.items()}
        schema = f"{SlurmSettings.__module__}.{SlurmSettings.__qualname__}"
        check_types("hydra.launcher", values, signature_of(schema) or {})
        self.settings = SlurmSettings(**values)
        self.settings.check()
        if importlib.util.find_spec("submitit") is None:
            raise UserError("the package submitit is not installed: pip install -e '.[slurm]'")
        if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
            raise UserError(
                f"hydra/launcher=slurm needs {', '.join(missing)}, not found on the PATH: start the sweep on "
                "a machine that submits to SLURM, or use hydra/launcher=local"
            )
        self.n_jobs = self.settings.array_parallelism
        self.at_work: dict[str, Submitted] = {}

    @contextmanager
    def session(self, folder: Path) -> Iterator[Mapping[str, str]]:
        """Find the jobs of an earlier command that are still in the queue."""
        self.folder = folder / "slurm"
        self.folder.mkdir(exist_ok=True)
        self.ids = JobIds(self.folder)
        if self.ids.read():
            there = queue()
            if without_work := self.ids.settle(there):
                cancel(without_work)
            self.at_work = {
                slug: each
                for slug, each in self.ids.read().items()
                if (found := there.get(each.job)) is not None and not found.is_over
            }
            if self.at_work:
                print(f"{len(self.at_work)} found in the queue: {_listed(self.at_work.values())}", flush=True)
        yield {slug: each.config_hash for slug, each in self.at_work.items()}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs that are not in the queue, and wait for all.

        Raises:
            UserError: sbatch has refused.
            KeyboardInterrupt: the user stopped waiting; the jobs go on.
        """
        jobs = [
            self._prepared(index, overrides, initial_job_idx + index)
            for index, overrides in enumerate(job_overrides)
        ]
        with Interrupts() as interrupts:
            for job in jobs:
                job.submitted = self.at_work.pop(job.slug, None)
                self.started(job.index)
            self._submit([job for job in jobs if job.submitted is None])
            return self._wait(jobs, interrupts)

    def _prepared(self, index: int, overrides: Sequence[str], number: int) -> SlurmJob:
        config = self.compose(overrides, number)
        values, slug = composed(config), str(config.hydra.sweep.subdir)
        minutes, times = self.settings.timeout_minutes, self.settings.max_num_timeout
        work = SlurmWork(
            ClusterJob.of(config, self.task_function),
            self.folder,
            slug,
            self.settings.signal_delay_s,
            f"stopped by hydra.launcher.timeout_minutes={minutes} after {times} more starts "
            "(hydra.launcher.max_num_timeout); the next start goes on",
        )
        return SlurmJob(index, slug, work, values["trainer"], config_hash(values))

    def _submit(self, jobs: list[SlurmJob]) -> None:
        by_layout: dict[tuple[Any, ...], list[SlurmJob]] = {}
        for job in jobs:
            by_layout.setdefault(job.layout, []).append(job)
            for task in range(job.trainer["num_nodes"] * tasks_per_node(job.trainer)):
                outcome_file(self.folder, job.slug, task).unlink(missing_ok=True)
        size = largest_array() if jobs else 1
        for some in by_layout.values():
            for first in range(0, len(some), size):
                self._submit_array(some[first : first + size])

    def _submit_array(self, jobs: list[SlurmJob]) -> None:
        submitit = importlib.import_module("submitit")
        trainer = jobs[0].trainer
        executor = submitit.SlurmExecutor(folder=self.folder, max_num_timeout=self.settings.max_num_timeout)
        tasks = trainer["num_nodes"] * tasks_per_node(trainer)
        self.ids.intend({job.slug: Submitted("", tasks, job.config_hash, time.time()) for job in jobs})
        try:
            executor.update_parameters(**self.settings.parameters(trainer))
            with contextlib.redirect_stderr(io.StringIO()):  # what it prints is in the error
                handles = executor.submit_array([job.work for job in jobs])
        except Exception as error:
            raise UserError(f"sbatch has refused: {str(error) or type(error).__name__}") from error
        for job, handle in zip(jobs, handles, strict=True):
            job.submitted = Submitted(handle.job_id, tasks, job.config_hash, time.time())
        self.ids.write(
            {**self.ids.read(), **{job.slug: job.submitted for job in jobs if job.submitted is not None}}
        )
        array = handles[0].job_id.partition("_")[0]
        print(f"SLURM job {array}: {len(jobs)} job{'s' * (len(jobs) != 1)} submitted", flush=True)

    def _wait(self, jobs: list[SlurmJob], interrupts: Interrupts) -> list[JobReturn]:
        results: dict[int, JobReturn] = {}
        waiting, watch, complaint = list(jobs), Watch(), ""
        while waiting:
            if interrupts.count:
                left = _listed(job.submitted for job in waiting if job.submitted is not None)
                print(f"the jobs stay in SLURM, the same command waits for them; to end them: scancel {left}")
                raise KeyboardInterrupt
            there = watch.look()
            if watch.complaint != complaint and (complaint := watch.complaint):
                print(f"{complaint}: asking again until it answers", flush=True)
            for job in list(waiting):
                result = self._result(job, there)
                if result is not None:
                    waiting.remove(job)
                    results[job.index] = result
                    self.ended(job.index, result)
            if waiting:
                time.sleep(_LOOK_SECONDS)
        return [results[job.index] for job in jobs]

    def _result(self, job: SlurmJob, there: Mapping[str, Place] | None) -> JobReturn | None:
        """What a job came to; None as long as it may go on."""
        assert job.submitted is not None
        outcomes = self._outcomes(job)
        if 0 in outcomes and outcomes[0].kind == "completed":
            return outcomes[0].result()
        if there is None:
            return None
        found = there.get(job.submitted.job)
        if found is not None and found.never_starts:
            cancel([job.submitted.job])
            nodes = f"{job.trainer['num_nodes']} nodes x {tasks_per_node(job.trainer)} tasks"
            return failed(JobKilled(f"SLURM would never start it ({found.reason}): it asks for {nodes}"))
        # A job that is requeued is over for a moment, and its last words may come late over a network.
        job.gone = job.gone + 1 if found is None or found.is_over else 0
        if job.gone < 2:
            return None
        if outcomes:  # the first task that ended has ended the others
            task, first = min(outcomes.items(), key=lambda each: each[1].ended_unix)
            if first.kind != "completed":
                reason = f"task {task}: {first.reason}" if task else first.reason
                return Outcome(first.kind, reason).result()
        state = found.state if found else "and SLURM has forgotten it"
        reason = f"SLURM job {job.submitted.job} was ended from outside, {state}"
        return failed(JobKilled(f"{reason}; see {self.folder}/{job.submitted.job}_0_log.err"))

    def _outcomes(self, job: SlurmJob) -> dict[int, Outcome]:
        assert job.submitted is not None
        found = {}
        for task in range(job.submitted.tasks):
            with contextlib.suppress(FileNotFoundError):
                text = outcome_file(self.folder, job.slug, task).read_text(encoding="utf-8")
                found[task] = Outcome.from_json(text)
        return found


def _listed(jobs: Any) -> str:
    """`12 15_3`: ids for scancel, of a whole array its one."""
    ids = [each.job for each in jobs]
    arrays = dict.fromkeys(each.partition("_")[0] for each in ids)
    return " ".join(arrays if len(ids) > 3 else ids)
