"""The default sweeper: a grid in a folder that stays the same; what is finished is never run again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from tempo.errors import INTERRUPTED_CODE
from tempo.record.run_folder import check_beginning
from tempo.sweep.grid import Grid, parse_grid
from tempo.sweep.jobs import Job, distinct_jobs, write_sweep
from tempo.sweep.launcher.base import IsolatingLauncher
from tempo.sweep.naming import job_slugs, sweep_name
from tempo.sweep.progress import Progress
from tempo.sweep.sweeper import RunSweeper, say


class GridSweeper(RunSweeper):
    """Runs each combination of the swept values once, whatever it takes.

    All combinations are composed and checked before a folder is made. Jobs that are completed or diverged are
    left alone, those that were cut or have failed go on from their checkpoint, the others run in their old
    folder. What became of a job is read from its record, not from the launcher, so any launcher will do.

    Raises:
        UserError: a combination that cannot work, an empty grid or one of more than `max_jobs`, the same
            sweep at work elsewhere; at the end, if a job has no result.
    """

    def __init__(self, params: Mapping[str, Any], rows: Sequence[Any], max_jobs: int, report: bool) -> None:
        super().__init__(report)
        self.params = params
        self.rows = rows
        self.max_jobs = max_jobs

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run the grid; the objective's value of each job, None where it has none."""
        self.check_settings()
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        grid = parse_grid(parser, arguments, self.params, self.rows, self.max_jobs)
        self.refuse((*grid.fixed, *grid.keys))
        self._place(sweep_name(grid, self.master.hydra.job.config_name))
        composed_jobs = [self._job(*each) for each in zip(grid.combinations, job_slugs(grid), strict=True)]
        jobs = distinct_jobs(composed_jobs)
        if repeated := len(grid.repeated) + len(composed_jobs) - len(jobs):
            say(f"{repeated} of {len(jobs) + repeated} combinations left out: the same as another")
        for job in jobs:
            if job.need() == "run":
                check_beginning(job.config)
        self.chosen_launcher = self._launcher()
        with self.alone():
            return self._run(grid, jobs)

    def _run(self, grid: Grid, jobs: list[Job]) -> list[Any]:
        tasks = [(job, need == "resume") for job in jobs if (need := job.need()) != "nothing"]
        done_before = len(jobs) - len(tasks)
        say(f"sweep {self.folder}: {_counted(len(jobs), done_before, sum(resume for _, resume in tasks))}")
        for job, resume in tasks:
            if not resume:
                self._make_room(job)
        write_sweep(self.folder, sys.argv, grid.keys, jobs)
        try:
            if tasks:
                launcher = self.chosen_launcher
                at_once = launcher.n_jobs if isinstance(launcher, IsolatingLauncher) else 1
                progress = Progress(total=len(jobs), done_before=done_before, n_at_once=at_once)
                self._launch(tasks, progress)
        except KeyboardInterrupt:
            left = sum(job.need() != "nothing" for job in jobs)
            say(f"stopped, {left} of {len(jobs)} jobs left. Go on with: {shlex.join(['python', *sys.argv])}")
            sys.exit(INTERRUPTED_CODE)
        return self._finish(jobs)


def _counted(total: int, done_before: int, resumed: int) -> str:
    words = f"{total} job{'' if total == 1 else 's'}"
    if done_before:
        words += f", {done_before} finished before"
    return words + (f", {resumed} to go on from a checkpoint" if resumed else "")
