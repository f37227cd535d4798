"""The default sweeper: a grid whose folder depends on the command, so a job with a result never reruns."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from tempo.config.schema import key
from tempo.record.run_folder import check_beginning
from tempo.sweep.base_sweeper import RunSweeper
from tempo.sweep.grid import Grid, parse_grid
from tempo.sweep.job_names import job_slugs, sweep_name
from tempo.sweep.jobs import CONSOLE_FILE, Job, distinct_jobs, write_sweep
from tempo.sweep.progress import Progress, say


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    """The keys of conf/hydra/sweeper/grid.yaml."""

    params: Mapping[str, Any] = field(default_factory=dict)
    rows: list[Any] = field(default_factory=list)
    max_jobs: int = key(1000, at_least=1)
    report: bool = True


class GridSweeper(RunSweeper):
    """Runs each combination of the swept values once.

    All jobs are composed and checked before a folder is created. Jobs that completed or diverged are left
    alone, interrupted and failed ones resume from their checkpoint, and the others run from the start.

    Raises:
        UserError: a combination cannot work, the grid is empty or has more than `max_jobs` jobs, or the same
            sweep is already running; at the end, a job has no result.
    """

    settings_class = GridSettings
    settings: GridSettings

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run the grid; return the objective's value of each job, None if it has none."""
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        settings = self.settings
        grid = parse_grid(parser, arguments, settings.params, settings.rows, settings.max_jobs)
        self.refuse((*grid.fixed, *grid.keys))
        self._choose_folder(sweep_name(grid, self.master.hydra.job.config_name))
        checked = [self._job(*pair) for pair in zip(grid.combinations, job_slugs(grid), strict=True)]
        jobs = distinct_jobs(checked)
        if repeated := grid.n_repeated + len(checked) - len(jobs):
            say(f"{repeated} of {len(jobs) + repeated} combinations left out: they repeat another one")
        for job in jobs:
            # A resumed job began long ago: the run that init_from names may be gone by now.
            if job.need() == "run":
                check_beginning(job.values)
        self.chosen_launcher = self._make_launcher()
        with self.lock():
            return self._run(grid, jobs)

    def _run(self, grid: Grid, jobs: list[Job]) -> list[Any]:
        tasks = [(job, need == "resume") for job in jobs if (need := job.need()) != "nothing"]
        done, resumed = len(jobs) - len(tasks), sum(resume for _, resume in tasks)
        words = f"{len(jobs)} job{'s' * (len(jobs) != 1)}" + (f", {done} finished before" if done else "")
        say(f"sweep {self.folder}: {words}" + (f", {resumed} to resume" if resumed else ""))
        if tasks:
            say(f"each job writes its own output to <job>/{CONSOLE_FILE} there")
        for job, resume in tasks:
            if not resume:
                self._make_room(job)
        # Before any job starts: a report then knows of those that were killed before their first record.
        write_sweep(self.folder, sys.argv, grid.keys, jobs)
        try:
            if tasks:
                progress = Progress(total=len(jobs), done_before=done, n_at_once=self.n_at_once)
                self._launch(tasks, progress)
        except KeyboardInterrupt:
            self.stop(sum(job.need() != "nothing" for job in jobs), len(jobs), "jobs")
        return self._finish(jobs)
