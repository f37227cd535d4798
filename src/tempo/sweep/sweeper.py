"""What sweepers share: jobs composed, checked and launched, what became of each, the report at the end."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException, InstantiationException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from tempo.command_line.error_messages import one_line
from tempo.config.check import check
from tempo.config.signature import check_types, signature_of
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.record.folder_lock import FolderLock
from tempo.record.run_folder import named_folder, note_folder, quoted
from tempo.record.run_json import FILE_NAME, RunRecord
from tempo.sweep.grid import Combination
from tempo.sweep.job_configs import JobConfigs
from tempo.sweep.jobs import Job
from tempo.sweep.launcher.base import IsolatingLauncher, JobEnded, JobInterrupted, failure
from tempo.sweep.progress import Progress

Task = tuple[Job, bool]
"""A job, and whether it goes on from a checkpoint."""


class RunSweeper(Sweeper):
    """Runs jobs of the training path in one folder. What became of a job is read from its record."""

    folder: Path
    chosen_launcher: Launcher

    def __init__(self, report: bool) -> None:
        self.report = report
        self.unrecorded: dict[str, str] = {}
        """Why a job ended, by slug, where its record could not be told."""
        self.returned: set[str] = set()
        """Jobs that ended well under our launchers: without a record, their script writes none."""
        self.refused: list[str] = []
        """Why jobs were not even started."""
        self.found: dict[str, RunRecord | None] = {}
        """The record that each attempt found, by slug: it tells nothing of the attempt itself."""
        self.at_work: dict[str, str] = {}
        """Jobs of an earlier command that their launcher still has: slug -> hash of the configuration."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what the launcher is made of: it is made when the sweep's folder is known."""
        self.context = hydra_context
        self.task_function = task_function
        self.master = config

    def check_settings(self) -> None:
        """UserError for a key of `hydra.sweeper` that is of another type than the sweeper takes."""
        node = OmegaConf.to_container(self.master.hydra.sweeper, resolve=True)
        assert isinstance(node, dict)
        values = {str(key): value for key, value in node.items() if key != "_target_"}
        check_types(
            "hydra.sweeper", values, signature_of(f"{type(self).__module__}.{type(self).__name__}") or {}
        )

    def refuse(self, overrides: Sequence[str]) -> None:
        """Refuse what no sweep can do, given the overrides and keys of its jobs."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(
                "-m cannot run under torchrun or srun: leave them out, each job starts its own processes"
            )
        if os.environ.get("NODE_RANK"):
            raise UserError(
                "-m with NODE_RANK set: the sweeps of two nodes would not keep step; leave -m out and start "
                "each run by itself on all nodes, or leave NODE_RANK out"
            )
        if {"resume", "preview"} & {each.partition("=")[0] for each in overrides}:
            raise UserError(
                "resume= and preview= are for single runs; the same -m command goes on where it was cut"
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folder and hold it against the same sweep started twice; with the launcher's session."""
        note_folder(self.folder)  # what is refused from here on takes an empty folder back
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remedy = "choose another folder with hydra.sweep.dir=<folder>"
            launcher = self.chosen_launcher
            session: AbstractContextManager[Mapping[str, str]] = nullcontext({})
            if isinstance(launcher, IsolatingLauncher):
                session = launcher.session(self.folder)
            with FolderLock(self.folder, what="the same sweep", remedy=remedy), session as found:
                self.at_work = dict(found)
                yield
        except OSError as error:
            reason = f"{error.filename or self.folder}: {error.strerror}"
            raise UserError(f"{reason}; choose another folder with hydra.sweep.dir=<folder>") from error

    def _place(self, name: str) -> None:
        """Resolve the folder once: later it is the same for all jobs, on whatever machine they run."""
        OmegaConf.register_new_resolver("sweep_name", lambda: name, replace=True)
        self.folder = named_folder("hydra.sweep.dir", str(self.master.hydra.sweep.dir)).absolute()
        with open_dict(self.master):
            self.master.hydra.sweep.dir = str(self.folder)
        self.configs = JobConfigs(self.context.config_loader, self.master)

    def _job(self, combination: Combination, slug: str) -> Job:
        try:
            values = self.configs.values(combination.overrides)
            check(values)
        except (HydraException, OmegaConfBaseException) as error:
            job, line = " ".join(combination.swept) or "the job", one_line(error)
            raise UserError(line if line.startswith(job) else f"{job}: {line}") from error
        return Job(slug, combination.overrides, self.folder / slug, values)

    def _launcher(self) -> Launcher:
        try:
            return Plugins.instance().instantiate_launcher(
                hydra_context=self.context, task_function=self.task_function, config=self.master
            )
        except InstantiationException as error:
            if isinstance(error.__cause__, UserError):
                raise error.__cause__ from None
            raise UserError(one_line(error)) from error

    def _launch(self, tasks: Iterable[Task], progress: Progress, batch: int | None = None) -> None:
        """Have the launcher run them: one by one where it takes them so, else `batch` at a time (all)."""
        launcher, tasks = self.chosen_launcher, iter(tasks)
        if isinstance(launcher, IsolatingLauncher) and launcher.one_by_one:
            self._launch_here(launcher, tasks, progress)
            return
        while some := list(itertools.islice(tasks, batch)):
            if isinstance(launcher, IsolatingLauncher):
                self._launch_here(launcher, some, progress)
            else:
                self._launch_elsewhere(launcher, some)

    def _launch_here(self, launcher: IsolatingLauncher, tasks: Iterable[Task], progress: Progress) -> None:
        taken: list[Task] = []

        def overrides() -> Iterator[list[str]]:
            for each in tasks:
                taken.append(each)
                yield self._overrides(*each)

        def started(index: int) -> None:
            self._begin(*taken[index])
            progress.start(taken[index][0].slug)

        def ended(index: int, result: JobReturn) -> None:
            job, _ = taken[index]
            self._settle(job, result)
            self.at_work.pop(job.slug, None)
            if failure(result) is None:
                self.returned.add(job.slug)
            say(progress.end(job.slug, job.record(), self.unrecorded.get(job.slug, "")))
            self.over(job, isinstance(failure(result), (KeyboardInterrupt, JobInterrupted)))

        launcher.started, launcher.ended = started, ended
        jobs: Any = overrides() if launcher.one_by_one else list(overrides())
        launcher.launch(jobs, initial_job_idx=0)

    def _launch_elsewhere(self, launcher: Launcher, tasks: list[Task]) -> None:
        """Launchers of others may give up when a job raises: start again those that were not reached."""
        todo, before = tasks, len(tasks) + 1
        for each in tasks:
            self._begin(*each)
        while todo and len(todo) < before:
            before = len(todo)
            try:
                overrides = [self._overrides(*each) for each in todo]
                for (job, _), result in zip(
                    todo, launcher.launch(overrides, initial_job_idx=0), strict=False
                ):
                    if reason := self._settle(job, result):
                        say(f"{job.slug}: {reason}")
            except SystemExit as error:
                if error.code == INTERRUPTED_CODE:
                    raise KeyboardInterrupt from error
            except Exception as error:  # noqa: BLE001 - the records tell what became of each job
                say(f"the launcher gave up: {type(error).__name__}: {error}")
            todo = [(job, resume) for job, resume in todo if not resume and job.record() is None]
        for job, _ in tasks:
            self.over(job, stopped=False)

    def over(self, job: Job, stopped: bool) -> None:
        """Called with each job that came to an end, when its record says why; `stopped` by the user?"""

    def _make_room(self, job: Job) -> None:
        """Free the folder of a job that is to run from the start, unless it is at work there."""
        if job.slug not in self.at_work:
            if line := job.make_room():
                say(line)
        elif self.at_work[job.slug] != job.config_hash:
            raise UserError(
                f"{job.folder}: a job of another configuration is still waiting or at work there: wait for "
                "it or cancel it, or choose another folder with hydra.sweep.dir=<folder>"
            )

    def _begin(self, job: Job, resume: bool) -> None:
        if job.slug in self.at_work:  # it has begun, and its record may be its own
            self.found[job.slug] = None
            return
        if not resume:
            job.begin()
        self.found[job.slug] = job.record()

    def _overrides(self, job: Job, resume: bool) -> list[str]:
        own = [f"hydra.sweep.dir={quoted(str(self.folder))}", f"hydra.sweep.subdir={quoted(job.slug)}"]
        return [*job.overrides, *([f"resume={quoted(str(job.folder))}"] if resume else []), *own]

    def _finish(self, jobs: list[Job]) -> list[Any]:
        records = [job.record() for job in jobs]
        missing = [
            (job, record)
            for job, record in zip(jobs, records, strict=True)
            if (job.slug not in self.returned if record is None else not record.finished)
        ]
        told = False
        try:
            if self.report and any(records):
                self._report()
                told = True
        finally:
            for job, record in missing:
                if not told or job.slug in self.unrecorded:
                    self._say_missing(job, record)
        if lost := len(missing) + len(self.refused):
            total = len(jobs) + len(self.refused)
            alone = "the commands above run them alone, " if missing else ""
            raise UserError(
                f"{lost} of {total} jobs without a result: {alone}the same command as before runs all of "
                "them and nothing else"
            )
        return [record.objective.get("value") if record else None for record in records]

    def _say_missing(self, job: Job, record: RunRecord | None) -> None:
        status, reason = (record.status, record.reason) if record else ("failed", f"no {FILE_NAME}")
        say(f"{status}: {job.folder}: {self.unrecorded.get(job.slug) or reason or 'no end recorded'}")
        say(
            f"  again: {job.again(next((each for each in sys.argv if each.endswith('.py')), 'src/train.py'))}"
        )

    def _settle(self, job: Job, result: Any) -> str:
        """Where a job died, or raised before its record, say so in the record; the reason, "" if recorded."""
        error, record = failure(result) if isinstance(result, JobReturn) else None, job.record()
        if error is None:
            return ""
        stopped = isinstance(error, (KeyboardInterrupt, JobInterrupted))
        if record is not None:
            told_now = record != self.found.get(job.slug)
            if told_now and record.status not in ("running", "interrupted"):
                return ""
            if stopped and record.status == "interrupted":
                return ""
        named = str(error) if isinstance(error, (JobEnded, UserError)) else f"{type(error).__name__}: {error}"
        reason = " ".join(named.split())
        if not job.mark_dead(reason):
            self.unrecorded[job.slug] = reason
        return reason

    def _report(self) -> None:
        # Not at the top: this module is imported at every start, and figures take a second to load.
        build = importlib.import_module("tempo.report.write_report")
        content = build.content_of([self.folder], build.load([self.folder]))
        say(build.text_of(content).rstrip())
        say(f"report    {build.write_report(content, self.folder / 'report')}")


def say(line: str) -> None:
    """Print at once, so that lines of jobs and of the sweep stand in their order."""
    print(line, flush=True)
