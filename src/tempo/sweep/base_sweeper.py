"""Base of the sweepers: check and launch jobs, read outcomes from the records, and report at the end."""

from __future__ import annotations

import importlib
import itertools
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.errors import HydraException, InstantiationException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from tempo.command_line.error_messages import one_line
from tempo.config.check import check
from tempo.config.schema import read_section
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.record.folder_lock import FolderLock
from tempo.record.run_folder import named_folder, note_folder, quoted
from tempo.record.run_json import FILE_NAME, RunRecord
from tempo.sweep.grid import Combination
from tempo.sweep.job_composer import JobComposer
from tempo.sweep.jobs import Job
from tempo.sweep.launcher.base_launcher import IsolatingLauncher, Outcome
from tempo.sweep.progress import Progress, say

Task = tuple[Job, bool]
"""A job, and whether it resumes from a checkpoint."""
_OTHER_FOLDER = "choose another folder with hydra.sweep.dir=<folder>"


class RunSweeper(Sweeper):
    """Runs jobs in one folder. A job's outcome is read from its record, so any launcher can be used."""

    settings_class: type
    """The keys of `hydra.sweeper`: their types, ranges and defaults."""
    settings: Any
    folder: Path
    chosen_launcher: Launcher

    def __init__(self, **settings: Any) -> None:
        """Prepare; Hydra passes the keys of `hydra.sweeper`, which `setup` reads and checks."""
        self.unrecorded: dict[str, str] = {}
        """Slug -> reason why a job ended, if its record could not be written."""
        self.returned: set[str] = set()
        """Jobs that returned under our launchers; if one has no record, its script does not write any."""
        self.refused: list[str] = []
        """Reasons why jobs were not started."""
        self.record_before: dict[str, RunRecord | None] = {}
        """Slug -> the record found when an attempt began, which therefore belongs to an earlier one."""
        self.in_queue: dict[str, str] = {}
        """Jobs of an earlier command that their launcher still has: slug -> hash of the configuration."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check the settings, and keep the arguments for the launcher until the sweep's folder is known."""
        self.context = hydra_context
        self.task_function = task_function
        self.master = config
        node: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
        values = {str(key): value for key, value in node.items() if key != "_target_"}
        self.settings = read_section(self.settings_class, "hydra.sweeper", values)

    def refuse(self, overrides: Sequence[str]) -> None:
        """Raise UserError if the overrides, their keys or the environment do not allow a sweep."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(
                "-m cannot run under torchrun or srun; leave them out, as each job starts its own processes"
            )
        if os.environ.get("NODE_RANK"):
            raise UserError(
                "-m with NODE_RANK set would start two sweeps that do not run in step; leave -m out and "
                "start each run by itself on all nodes, or leave NODE_RANK out"
            )
        if {"resume", "preview"} & {override.partition("=")[0] for override in overrides}:
            raise UserError(
                "resume= and preview= are for single runs; rerun the same -m command to resume its jobs"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Create the folder, lock it against a second start of the sweep, and open the launcher's session."""
        note_folder(self.folder)  # if anything is refused from here on, an empty folder is removed again
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            launcher = self.chosen_launcher
            session: AbstractContextManager[Mapping[str, str]] = nullcontext({})
            if isinstance(launcher, IsolatingLauncher):
                session = launcher.session(self.folder)
            with FolderLock(self.folder, what="the same sweep", remedy=_OTHER_FOLDER), session as found:
                self.in_queue = dict(found)
                yield
        except OSError as error:
            reason = f"{error.filename or self.folder}: {error.strerror}"
            raise UserError(f"{reason}; {_OTHER_FOLDER}") from error

    def _choose_folder(self, name: str) -> None:
        """Resolve the folder once, so that it is the same for all jobs on any machine."""
        OmegaConf.register_new_resolver("sweep_name", lambda: name, replace=True)
        self.folder = named_folder("hydra.sweep.dir", str(self.master.hydra.sweep.dir)).absolute()
        with open_dict(self.master):
            self.master.hydra.sweep.dir = str(self.folder)
        self.composer = JobComposer(self.context.config_loader, self.master)

    def _job(self, combination: Combination, slug: str) -> Job:
        """Compose and check a job."""
        try:
            values = self.composer.values(combination.overrides)
            check(values)
        except (HydraException, OmegaConfBaseException) as error:
            # Some of Hydra's messages begin with the override that they are about.
            job, line = " ".join(combination.swept) or "the job", one_line(error)
            raise UserError(line if line.startswith(job) else f"{job}: {line}") from error
        return Job(slug, combination.overrides, self.folder / slug, values)

    def _make_launcher(self) -> Launcher:
        try:
            return Plugins.instance().instantiate_launcher(
                hydra_context=self.context, task_function=self.task_function, config=self.master
            )
        except InstantiationException as error:
            if isinstance(error.__cause__, UserError):
                raise error.__cause__ from None
            raise UserError(one_line(error)) from error

    @property
    def n_at_once(self) -> int:
        """Number of jobs that the launcher runs at the same time."""
        launcher = self.chosen_launcher
        return launcher.n_jobs if isinstance(launcher, IsolatingLauncher) else 1

    def _launch(self, tasks: Iterable[Task], progress: Progress, batch: int | None = None) -> None:
        """Run jobs one by one if the launcher supports it, otherwise `batch` at a time (None: all)."""
        launcher, tasks = self.chosen_launcher, iter(tasks)
        if isinstance(launcher, IsolatingLauncher) and launcher.one_by_one:
            self._run_isolated(launcher, tasks, progress)
            return
        while some := list(itertools.islice(tasks, batch)):
            if isinstance(launcher, IsolatingLauncher):
                self._run_isolated(launcher, some, progress)
            else:
                self._run_foreign(launcher, some)

    def _run_isolated(self, launcher: IsolatingLauncher, tasks: Iterable[Task], progress: Progress) -> None:
        begun: list[Job] = []

        def overrides() -> Iterator[list[str]]:
            for job, resume in tasks:  # the launcher takes a job when it starts it
                begun.append(job)
                self._begin(job, resume)
                progress.start(job.slug)
                yield self._overrides(job, resume)

        # If a line below raises, the generator must end at once: its end kills the jobs that still run.
        with progress.bar(), closing(launcher.run_jobs(overrides())) as outcomes:  # type: ignore[type-var]
            for index, outcome in outcomes:
                job = begun[index]
                self._record_end(job, outcome)
                self.in_queue.pop(job.slug, None)
                if outcome.kind == "completed":
                    self.returned.add(job.slug)
                say(progress.end(job.slug, job.record(), self.unrecorded.get(job.slug, "")))
                self.job_ended(job, stopped=outcome.kind == "interrupted")

    def _run_foreign(self, launcher: Launcher, tasks: list[Task]) -> None:
        """Run jobs with another package's launcher, which may give up when a job raises.

        Jobs that were not reached are launched again.
        """
        todo, before = tasks, len(tasks) + 1
        for job, resume in tasks:
            self._begin(job, resume)
        # A launch that reached no job would reach none the next time either.
        while todo and len(todo) < before:
            before = len(todo)
            try:
                overrides = [self._overrides(job, resume) for job, resume in todo]
                results = launcher.launch(overrides, initial_job_idx=0)
                # A launcher that gave up may return fewer results than it was given jobs.
                for (job, _), result in zip(todo, results, strict=False):
                    if reason := self._record_end(job, Outcome.from_job_return(result)):
                        say(f"{job.slug}: {reason}")
            except SystemExit as error:
                # Hydra's launchers do not catch a job's exit; this is its code after a Ctrl-C.
                if error.code == INTERRUPTED_CODE:
                    raise KeyboardInterrupt from error
            except Exception as error:  # noqa: BLE001 - the records tell the outcome of each job
                say(f"the launcher gave up: {type(error).__name__}: {error}")
            todo = [(job, resume) for job, resume in todo if not resume and job.record() is None]
        for job, _ in tasks:
            self.job_ended(job, stopped=False)

    def job_ended(self, job: Job, stopped: bool) -> None:
        """React to the end of a job, whose record has the reason; `stopped`: the user stopped it."""

    def _make_room(self, job: Job) -> None:
        """Free the folder of a job that runs from the start, unless the job is already running there."""
        if job.slug not in self.in_queue:
            if line := job.make_room():
                say(line)
        elif self.in_queue[job.slug] != job.config_hash:
            raise UserError(
                f"{job.folder}: a job of another configuration is still waiting or running there; wait for "
                f"it or cancel it, or {_OTHER_FOLDER}"
            )

    def _begin(self, job: Job, resume: bool) -> None:
        if job.slug in self.in_queue:  # it may have begun, so the record may be its own
            self.record_before[job.slug] = None
            return
        if not resume:
            job.begin()
        self.record_before[job.slug] = job.record()

    def _overrides(self, job: Job, resume: bool) -> list[str]:
        own = [f"hydra.sweep.dir={quoted(str(self.folder))}", f"hydra.sweep.subdir={quoted(job.slug)}"]
        return [*job.overrides, *([f"resume={quoted(str(job.folder))}"] if resume else []), *own]

    def _record_end(self, job: Job, outcome: Outcome) -> str:
        """Record why a job died; return the reason, or "" if the job had recorded its own end."""
        if outcome.kind == "completed":
            return ""
        record = job.record()
        if record is not None:
            is_new = record != self.record_before.get(job.slug)
            if is_new and record.status not in ("running", "interrupted"):
                return ""
            if outcome.kind == record.status == "interrupted":
                return ""
        reason = " ".join(outcome.reason.split())
        if not job.record_reason(reason):
            self.unrecorded[job.slug] = reason
        return reason

    def stop(self, left: int, total: int, noun: str) -> None:
        """Exit after the user's Ctrl-C, and print how to resume."""
        command = shlex.join(["python", *sys.argv])
        say(f"stopped, {left} of {total} {noun} left; resume with: {command}")
        sys.exit(INTERRUPTED_CODE)

    def _finish(self, jobs: list[Job]) -> list[Any]:
        """Report; return the objective's value of each job, None if it has none.

        Raises:
            UserError: a job has no result.
        """
        records = {job.slug: job.record() for job in jobs}
        missing = [job for job in jobs if not self._has_result(job, records[job.slug])]
        reported = False
        try:
            if self.settings.report and any(records.values()):
                self._report()
                reported = True
        finally:
            # In `finally`, because a report that fails must not hide how to rerun the failed jobs.
            script = next((word for word in sys.argv if word.endswith(".py")), "src/train.py")
            for job in missing:
                record, unrecorded = records[job.slug], self.unrecorded.get(job.slug)
                if unrecorded or not reported:
                    status = record.status if record else "failed"
                    reason = unrecorded or (record.reason if record else f"no {FILE_NAME}")
                    say(f"{status}: {job.folder}: {reason or 'no end recorded'}")
                    say(f"  rerun: {job.command(script)}")
        if n_missing := len(missing) + len(self.refused):
            alone = "the commands above run them alone; " if missing else ""
            raise UserError(
                f"{n_missing} of {len(jobs) + len(self.refused)} jobs have no result; {alone}rerun the same "
                "command to run only those"
            )
        return [record.objective.get("value") if record else None for record in records.values()]

    def _has_result(self, job: Job, record: RunRecord | None) -> bool:
        return job.slug in self.returned if record is None else record.finished

    def _report(self) -> None:
        # Imported only here: this module is imported at every start, and figures take a second to load.
        report = importlib.import_module("tempo.report.write_report")
        content = report.content_of([self.folder], report.load([self.folder]))
        say(report.text_of(content).rstrip())
        say(f"report    {report.write_report(content, self.folder / 'report')}")
