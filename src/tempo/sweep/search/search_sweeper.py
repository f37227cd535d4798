"""Automatic search: `hydra/sweeper=search`. Trials are drawn by Optuna, and each is an ordinary run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from tempo.errors import INTERRUPTED_CODE, UserError, nearest
from tempo.record.atomic_write import write_atomically
from tempo.record.run_folder import SEARCH_FILE, check_beginning, quoted
from tempo.sweep.grid import Combination, Grid
from tempo.sweep.jobs import Job, difference, write_sweep
from tempo.sweep.launcher.base import IsolatingLauncher
from tempo.sweep.naming import point_slug, sweep_name
from tempo.sweep.progress import Progress
from tempo.sweep.search.space import parse_space
from tempo.sweep.sweeper import RunSweeper, Task, say
from tempo.trainer.search_trial import PRUNERS, SAMPLERS, check_pruner, storage_url, without_password


class SearchSweeper(RunSweeper):
    """Draws points of a space and runs each, until `n_trials` have a result.

    A trial is an ordinary run in a folder that is named after its point. The study learns what the run's
    record says, so the same command goes on after any end: what is finished counts, what was cut goes on
    from its checkpoint, what failed gets another try. A finite space is left when each point had its trial.

    Raises:
        UserError: a setting or a space that cannot work, a storage that cannot be reached, a study of another
            search; at the end, if a trial has no result.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        n_trials: int,
        sampler: str,
        startup_trials: int,
        pruner: str,
        seed: int,
        storage: str,
        study_name: str | None,
        max_failures: int,
        batch: int | None,
        report: bool,
        trial: int | None,
    ) -> None:
        super().__init__(report)
        self.params = params
        self.n_trials = n_trials
        self.sampler = sampler
        self.startup_trials = startup_trials
        self.pruner = pruner
        self.seed = seed
        self.storage = storage
        self.study_name = study_name
        self.max_failures = max_failures
        self.batch = batch
        self.trial = trial
        self.numbers: dict[str, int] = {}
        """Slug -> number of the trial."""
        self.jobs: dict[str, Job] = {}
        """Slug -> job of each trial, those of earlier commands with them."""
        self.failed_in_a_row = 0

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Search; the objective's value of each trial, None where it has none."""
        self._check_values()
        self.check_settings()
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        self.space = parse_space(parser, arguments, self.params)
        self.refuse((*self.space.fixed, *self.space.keys))
        self._place(self._name())
        config = self._checked_config()
        self.chosen_launcher = self._launcher()
        # Optuna loads NumPy, whose linear algebra would start threads: launchers fork jobs from this process.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        # Not at the top: this module is imported at every start.
        study_module = importlib.import_module("tempo.sweep.search.study")
        with self.alone():
            self.study_name = self.study_name or self.folder.name
            plan = study_module.Plan(
                storage=storage_url(self.storage, str(self.folder)),
                study=self.study_name,
                direction="minimize" if config["objective"].endswith("loss") else "maximize",
                sampler=self.sampler,
                startup_trials=self.startup_trials,
                pruner=self.pruner,
                epochs=config["trainer"]["epochs"],
                seed=self.seed,
                folder=str(self.folder),
            )
            try:
                self.study = study_module.SearchStudy(plan, self.space)
                self.objective = config["objective"]
                with contextlib.closing(self.study):
                    return self._run()
            except study_module.STORAGE_ERRORS as error:
                raise UserError(
                    f"the study was lost on the way ({' '.join(str(error).split())[:200]}): when its storage "
                    "can be reached again, the same command goes on"
                ) from error

    def _check_values(self) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise UserError("the package optuna is not installed: pip install -e '.[search]'")
        for key, value, known in (
            ("sampler", self.sampler, SAMPLERS),
            ("pruner", self.pruner, PRUNERS),
        ):
            if value not in known:
                raise UserError(
                    f"hydra.sweeper.{key}={value} is none.{nearest(str(value), known)} There is: "
                    f"{', '.join(known)}"
                )
        least = {"n_trials": 1, "startup_trials": 0, "max_failures": 1, "seed": 0, "batch": 1}
        for key, bound in least.items():
            value = getattr(self, key)
            if key == "batch" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < bound:
                raise UserError(
                    f"hydra.sweeper.{key}={value} must be a whole number of at least {bound}: e.g. "
                    f"hydra.sweeper.{key}={max(bound, 10)}"
                )
        if any(without_password(each) != each for each in sys.argv):
            raise UserError(
                "hydra.sweeper.storage: a password on the command line would be kept in records; put the URL "
                "into a variable of the environment: hydra.sweeper.storage='${oc.env:OPTUNA_STORAGE}'"
            )

    def _name(self) -> str:
        """The folder's: of another space, sampler, pruner or seed it is another."""
        how = [self.sampler, *([self.pruner] if self.pruner != "none" else [])]
        identity = json.dumps([self.master.hydra.job.config_name, *how, self.seed, self.space.words])
        name = sweep_name(Grid(self.space.keys, self.space.fixed, ()), identity)
        return f"search_{'_'.join(how)}__{name}"

    def _checked_config(self) -> Mapping[str, Any]:
        """Compose and check points at the edges of the space, before a folder is made; the first one's."""
        configs = []
        for values in self.space.probes():
            swept = self.space.overrides(values)
            configs.append(self._job(Combination((*self.space.fixed, *swept), swept), "probe").config)
        config = configs[0]
        check_beginning(config)
        if "objective" not in config:
            raise UserError("hydra/sweeper=search is for src/train.py, whose runs have an objective")
        if not config["objective"].startswith("val/"):
            raise UserError(
                f"objective={config['objective']}: a search chooses by validation, as the test images "
                "are for what was chosen; objective=val/accuracy or objective=val/loss"
            )
        if self.pruner == "hyperband" and "trainer.epochs" in self.space.names:
            raise UserError(
                "hydra.sweeper.pruner=hyperband compares runs of one length: give trainer.epochs one "
                "value, or hydra.sweeper.pruner=none"
            )
        check_pruner(self.pruner, config)
        return config

    def _run(self) -> list[Any]:
        self._recall()
        total = self.n_trials if self.space.size is None else min(self.n_trials, self.space.size)
        done = self.study.results
        words = f"{total} trial{'s' * (total != 1)}" + (f", {done} finished before" if done else "")
        pruner = "" if self.pruner == "none" else f", pruner {self.pruner}"
        say(f"search {self.folder}: {words}, sampler {self.sampler}{pruner}")
        launcher = self.chosen_launcher
        at_once = launcher.n_jobs if isinstance(launcher, IsolatingLauncher) else 1
        progress = Progress(total=total, done_before=done, n_at_once=at_once)
        try:
            self._launch(self._tasks(), progress, self.batch or at_once)
        except KeyboardInterrupt:
            left = max(0, total - self.study.results)
            say(f"stopped, {left} of {total} trials left. Go on with: {shlex.join(['python', *sys.argv])}")
            sys.exit(INTERRUPTED_CODE)
        self._write(importance=True)
        if self.space.size is not None and self.study.results >= self.space.size < self.n_trials:
            say(
                f"the space has {self.space.size} points, and each has had its trial: nothing is left to draw"
            )
        if self.failed_in_a_row >= self.max_failures:
            say(f"{self.failed_in_a_row} trials in a row failed: the search was stopped")
        return self._finish(list(self.jobs.values()))

    def _recall(self) -> None:
        """Take up the trials of earlier commands; refuse to mix results of two configurations."""
        with_result = self.study.numbers_with_result()
        for trial in self.study.trials:
            slug = trial.user_attrs.get("run")
            if slug is None:
                continue
            try:
                job = self._point(slug, self.space.rounded(trial.params))
            except UserError:
                if trial.number in with_result:
                    raise
                continue  # it was refused before; its point gets another try
            record = job.record()
            if record is not None and record.finished and record.config_hash != job.config_hash:
                raise UserError(
                    f"{job.folder} is a trial of another configuration: "
                    f"{difference(record.config, job.config)}; start another search with "
                    "hydra.sweep.dir=<folder>, or take the change back"
                )
            self.jobs[slug], self.numbers[slug] = job, trial.number

    def _tasks(self) -> Iterator[Task]:
        """The trials to be run, each drawn when it can start."""
        for drawn in self._drawn():
            slug = self._slug(drawn.values)
            self.study.place(drawn.number, slug)
            self.numbers[slug] = drawn.number
            try:
                job = self._point(slug, drawn.values)
            except UserError as error:
                say(str(error))
                self.refused.append(str(error))
                self.study.tell(drawn.number, None, str(error))
                self.failed_in_a_row += 1
                continue
            self.jobs[slug] = job
            need = job.need()
            if need == "nothing":  # it was over before the study heard of it
                self.over(job, stopped=False)
                continue
            if need == "run":
                self._make_room(job)
            write_sweep(self.folder, sys.argv, self.space.keys, list(self.jobs.values()))
            yield job, need == "resume"

    def _drawn(self) -> Iterator[Any]:
        """Trials that were cut, then points that failed, then new ones, up to `n_trials` with a result."""
        taken = set()
        for each in self.study.open_trials():
            taken.add(each.number)
            yield each
        self.study.queue_failed()
        while self.failed_in_a_row < self.max_failures:
            if len(taken | self.study.numbers_with_result()) >= self.n_trials:
                return
            drawn = self.study.draw()
            if drawn is None:
                return
            taken.add(drawn.number)
            yield drawn

    def _point(self, slug: str, values: Mapping[str, Any]) -> Job:
        swept = self.space.overrides(values)
        return self._job(Combination((*self.space.fixed, *swept), swept), slug)

    def _slug(self, values: Mapping[str, Any]) -> str:
        swept = self.space.overrides(values)
        slug = point_slug(self.space.keys, swept, marked=False)
        other = self.jobs.get(slug)
        if other is not None and other.overrides != (*self.space.fixed, *swept):
            return point_slug(self.space.keys, swept, marked=True)
        return slug

    def _overrides(self, job: Job, resume: bool) -> list[str]:
        mine = [
            f"hydra.sweeper.trial={self.numbers[job.slug]}",
            f"hydra.sweeper.study_name={quoted(str(self.study_name))}",
        ]
        return [*super()._overrides(job, resume), *mine]

    def over(self, job: Job, stopped: bool) -> None:
        """Tell the study, and count failures in a row; a trial that the user stopped stays open."""
        if stopped:
            return
        record, reason = job.record(), self.unrecorded.get(job.slug, "")
        self.study.tell(self.numbers[job.slug], record, reason)
        failed = record is None or not record.finished
        self.failed_in_a_row = self.failed_in_a_row + 1 if failed else 0
        self._write()

    def _write(self, importance: bool = False) -> None:
        known = self.study.as_plain(importance)
        values = {"objective": self.objective, "study": self.study_name, **known}
        write_atomically(self.folder / SEARCH_FILE, json.dumps(values, indent=2) + "\n")
