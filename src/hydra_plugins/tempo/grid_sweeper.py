"""The default sweeper: a grid in a folder that stays the same; what is finished is never run again."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException, InstantiationException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.tempo._compose import JobConfigs
from hydra_plugins.tempo._grid import Combination, Grid, parse_grid
from hydra_plugins.tempo._jobs import Job, distinct_jobs, write_sweep
from hydra_plugins.tempo._launcher import (
    IsolatingLauncher,
    JobEnded,
    JobInterrupted,
    failure,
)
from hydra_plugins.tempo._naming import job_slugs, sweep_name
from hydra_plugins.tempo._progress import Progress
from tempo.command_line import one_line
from tempo.config import check
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.folder_lock import FolderLock
from tempo.record import FILE_NAME, RunRecord


class GridSweeper(Sweeper):
    """Runs each combination of the swept values once, whatever it takes.

    All combinations are composed and checked before a folder is made. Jobs that are completed or diverged are
    left alone, those that were cut go on from their checkpoint, the others run in their old folder. What
    became of a job is read from its record, not from the launcher, so any launcher will do.

    Raises:
        UserError: a combination that cannot work, an empty grid, the same sweep at work elsewhere; at the
            end, if a job has no result.
    """

    def __init__(self, params: Mapping[str, Any], rows: Sequence[Any], report: bool) -> None:
        self.params = params
        self.rows = rows
        self.report = report
        self.unrecorded: dict[str, str] = {}
        """Why a job ended, by slug, where its record could not be told."""
        self.returned: set[str] = set()
        """Jobs that ended well under our launchers: without a record, their script writes none."""
        self.found: dict[str, RunRecord | None] = {}
        """The record that each attempt found, by slug: it tells nothing of the attempt itself."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what the launcher is made of: it is made when the sweep's folder is known."""
        self.context = hydra_context
        self.task_function = task_function
        self.master = config

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run the grid; the objective's value of each job, None where it has none."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(
                "-m cannot run under torchrun or srun: leave them out, each job starts its own processes"
            )
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        grid = parse_grid(parser, arguments, self.params, self.rows)
        if {"resume", "preview"} & {each.partition("=")[0] for each in (*grid.fixed, *grid.keys)}:
            raise UserError(
                "resume= and preview= are for single runs; the same -m command goes on where it was cut"
            )
        self._place(sweep_name(grid, self.master.hydra.job.config_name))
        configs = JobConfigs(self.context.config_loader, self.master)
        pairs = zip(grid.combinations, job_slugs(grid), strict=True)
        composed_jobs = [self._job(configs, combination, slug) for combination, slug in pairs]
        jobs = distinct_jobs(composed_jobs)
        if repeated := len(grid.repeated) + len(composed_jobs) - len(jobs):
            say(f"{repeated} of {len(jobs) + repeated} combinations left out: the same as another")
        self.chosen_launcher = self._launcher()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remedy = "choose another folder with hydra.sweep.dir=<folder>"
            with FolderLock(self.folder, what="the same sweep", remedy=remedy):
                return self._run(grid, jobs)
        except OSError as error:
            reason = f"{error.filename or self.folder}: {error.strerror}"
            raise UserError(f"{reason}; choose another folder with hydra.sweep.dir=<folder>") from error

    def _place(self, name: str) -> None:
        """Resolve the folder once: later it is the same for all jobs, on whatever machine they run."""
        OmegaConf.register_new_resolver("sweep_name", lambda: name, replace=True)
        self.folder = Path(self.master.hydra.sweep.dir).expanduser().absolute()
        with open_dict(self.master):
            self.master.hydra.sweep.dir = str(self.folder)

    def _job(self, configs: JobConfigs, combination: Combination, slug: str) -> Job:
        try:
            values = configs.values(combination.overrides)
            check(values)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"{' '.join(combination.swept) or 'the job'}: {one_line(error)}") from error
        return Job(slug, combination.overrides, self.folder / slug, values)

    def _launcher(self) -> Launcher:
        try:
            return Plugins.instance().instantiate_launcher(
                hydra_context=self.context, task_function=self.task_function, config=self.master
            )
        except InstantiationException as error:
            if isinstance(error.__cause__, UserError):
                raise error.__cause__ from None
            raise UserError(f"hydra.launcher: {error}") from error

    def _run(self, grid: Grid, jobs: list[Job]) -> list[Any]:
        needs = {job.slug: job.need() for job in jobs}
        todo = [job for job in jobs if needs[job.slug] != "nothing"]
        resumed = [job for job in todo if needs[job.slug] == "resume"]
        say(f"sweep {self.folder}: {_counted(len(jobs), len(todo), len(resumed))}")
        for job in todo:
            if job not in resumed and (line := job.make_room()):
                say(line)
        write_sweep(self.folder, sys.argv, grid.keys, jobs)
        try:
            if todo:
                self._launch(todo, resumed, len(jobs))
        except KeyboardInterrupt:
            left = sum(job.need() != "nothing" for job in jobs)
            say(f"stopped, {left} of {len(jobs)} jobs left. Go on with: {shlex.join(['python', *sys.argv])}")
            sys.exit(INTERRUPTED_CODE)
        return self._finish(jobs)

    def _launch(self, todo: list[Job], resumed: list[Job], total: int) -> None:
        launcher = self.chosen_launcher
        if not isinstance(launcher, IsolatingLauncher):
            self._launch_elsewhere(launcher, todo, resumed)
            return
        progress = Progress(total=total, done_before=total - len(todo), n_at_once=launcher.n_jobs)

        def started(index: int) -> None:
            self._begin(todo[index], todo[index] in resumed)
            progress.start(todo[index].slug)

        def ended(index: int, result: JobReturn) -> None:
            job = todo[index]
            self._settle(job, result)
            if failure(result) is None:
                self.returned.add(job.slug)
            say(progress.end(job.slug, job.record(), self.unrecorded.get(job.slug, "")))

        launcher.started, launcher.ended = started, ended
        launcher.launch([self._overrides(job, job in resumed) for job in todo], initial_job_idx=0)

    def _launch_elsewhere(self, launcher: Launcher, todo: list[Job], resumed: list[Job]) -> None:
        """Launchers of others may give up when a job raises: start again those that were not reached."""
        before = len(todo) + 1
        for job in todo:
            self._begin(job, job in resumed)
        while todo and len(todo) < before:
            before = len(todo)
            try:
                overrides = [self._overrides(job, job in resumed) for job in todo]
                for job, result in zip(todo, launcher.launch(overrides, initial_job_idx=0), strict=False):
                    if reason := self._settle(job, result):
                        say(f"{job.slug}: {reason}")
            except SystemExit as error:
                if error.code == INTERRUPTED_CODE:
                    raise KeyboardInterrupt from error
            except Exception as error:  # noqa: BLE001 - the records tell what became of each job
                say(f"the launcher gave up: {type(error).__name__}: {error}")
            todo = [job for job in todo if job not in resumed and job.record() is None]

    def _begin(self, job: Job, resume: bool) -> None:
        if not resume:
            job.begin()
        self.found[job.slug] = job.record()

    def _overrides(self, job: Job, resume: bool) -> list[str]:
        own = [f"hydra.sweep.dir={_quoted(str(self.folder))}", f"hydra.sweep.subdir={_quoted(job.slug)}"]
        return [*job.overrides, *([f"resume={_quoted(str(job.folder))}"] if resume else []), *own]

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
        if missing:
            raise UserError(
                f"{len(missing)} of {len(jobs)} jobs without a result: the commands above run them alone, "
                "the same command as before runs all of them and nothing else"
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
        build = importlib.import_module("tempo.report.build")
        say(build.summary_table([self.folder]).rstrip())
        say(f"report    {build.build_report([self.folder], self.folder / 'report')}")


def say(line: str) -> None:
    """Print at once, so that lines of jobs and of the sweep stand in their order."""
    print(line, flush=True)


def _counted(total: int, todo: int, resumed: int) -> str:
    words = f"{total} job{'' if total == 1 else 's'}"
    if todo < total:
        words += f", {total - todo} finished before"
    return words + (f", {resumed} to go on from a checkpoint" if resumed else "")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
