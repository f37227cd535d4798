"""Search with `hydra/sweeper=search`: Optuna draws the trials, which are ordinary runs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser

from tempo.config.check import check
from tempo.config.schema import RunConfig, key
from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.metric_names import metric_mode
from tempo.record.run_folder import SEARCH_FILE, check_beginning, quoted
from tempo.sweep.base_sweeper import RunSweeper, Task
from tempo.sweep.grid import Combination, Grid
from tempo.sweep.job_names import job_slug, sweep_name
from tempo.sweep.jobs import Job, difference, write_sweep
from tempo.sweep.progress import Progress, say
from tempo.sweep.search.space import parse_space
from tempo.trainer.optuna_trial import check_pruner, storage_url, without_password


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The keys of conf/hydra/sweeper/search.yaml."""

    params: Mapping[str, Any] = field(default_factory=dict)
    n_trials: int = key(20, at_least=1)
    sampler: Literal["random", "tpe", "gp"] = "tpe"
    startup_trials: int = key(10, at_least=0)
    pruner: Literal["none", "hyperband", "median"] = "none"
    seed: int = key(0, at_least=0)
    storage: str = "sqlite"
    study_name: str | None = None
    max_failures: int = key(3, at_least=1)
    batch: int | None = key(None, at_least=1)
    report: bool = True
    trial: int | None = None


class SearchSweeper(RunSweeper):
    """Draws points of a space and runs them until `n_trials` have a result.

    A trial is an ordinary run in a folder named after its point. The study gets its result from the run's
    record. The command can be rerun at any time: trials with a result count, interrupted ones resume, and
    failed ones get another try. A finite space is exhausted when every point has had its trial.

    Raises:
        UserError: a setting or a space cannot work, the storage cannot be reached, or the study belongs to
            another search; at the end, a trial has no result.
    """

    settings_class = SearchSettings
    settings: SearchSettings

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.numbers: dict[str, int] = {}
        """Slug -> number of the trial."""
        self.jobs: dict[str, Job] = {}
        """Slug -> job of each trial, including those of earlier commands."""
        self.failed_in_a_row = 0

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Search; return the objective's value of each trial, None if it has none."""
        settings = self.settings
        self._check()
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        self.space = parse_space(parser, arguments, settings.params)
        self.refuse((*self.space.fixed, *self.space.keys))
        self._choose_folder(self._name())
        config = self._checked_config()
        self.objective, self.mode = config.objective, metric_mode(config.objective, config.objective_mode)
        self.chosen_launcher = self._make_launcher()
        # Optuna loads NumPy, whose linear algebra would start threads, but launchers fork from this process.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        # Imported only here: Optuna is an optional extra and takes a second to load.
        study_module = importlib.import_module("tempo.sweep.search.optuna_study")
        with self.lock():
            self.study_name = settings.study_name or self.folder.name
            plan = study_module.Plan(
                storage=storage_url(settings.storage, str(self.folder)),
                study=self.study_name,
                direction="minimize" if self.mode == "min" else "maximize",
                sampler=settings.sampler,
                startup_trials=settings.startup_trials,
                pruner=settings.pruner,
                epochs=config.trainer.epochs,
                seed=settings.seed,
                folder=str(self.folder),
            )
            try:
                self.study = study_module.SearchStudy(plan, self.space)
                with closing(self.study):
                    return self._run()
            except study_module.STORAGE_ERRORS as error:
                raise UserError(
                    f"the connection to the study was lost ({' '.join(str(error).split())[:200]}); rerun the "
                    "command when its storage can be reached again"
                ) from error

    def _check(self) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise UserError("the package optuna is not installed: pip install -e '.[search]'")
        if any(without_password(word) != word for word in sys.argv):
            raise UserError(
                "hydra.sweeper.storage: records would keep a password of the command line; put the URL into "
                "an environment variable: hydra.sweeper.storage='${oc.env:OPTUNA_STORAGE}'"
            )

    def _name(self) -> str:
        """Return the folder's name, which depends on the space, the sampler, the pruner and the seed."""
        settings = self.settings
        how = [settings.sampler, *([settings.pruner] if settings.pruner != "none" else [])]
        config_name = self.master.hydra.job.config_name
        identity = json.dumps([config_name, *how, settings.seed, self.space.words])
        return f"search_{'_'.join(how)}__{sweep_name(Grid(self.space.keys, self.space.fixed, ()), identity)}"

    def _checked_config(self) -> RunConfig:
        """Check points at the edges of the space before creating a folder; return the first configuration."""
        values, *_ = [self._point("probe", point).values for point in self.space.probes()]
        check_beginning(values)
        if "objective" not in values:
            raise UserError("hydra/sweeper=search is for src/train.py, whose runs have an objective")
        config = check(values)
        if not config.objective.startswith("val/"):
            raise UserError(
                f"objective={config.objective}, but a search chooses by validation and leaves the test "
                "images for the chosen run; set objective=val/accuracy or objective=val/loss"
            )
        pruner = self.settings.pruner
        if pruner == "hyperband" and "trainer.epochs" in self.space.names:
            raise UserError(
                "hydra.sweeper.pruner=hyperband compares runs of one length; give trainer.epochs one value, "
                "or set hydra.sweeper.pruner=none"
            )
        check_pruner(pruner, config)
        return config

    def _run(self) -> list[Any]:
        self._recall()
        settings, size = self.settings, self.space.size
        total = settings.n_trials if size is None else min(settings.n_trials, size)
        done = len(self.study.numbers_with_result())
        words = f"{total} trial{'s' * (total != 1)}" + (f", {done} finished before" if done else "")
        pruner = "" if settings.pruner == "none" else f", pruner {settings.pruner}"
        say(f"search {self.folder}: {words}, sampler {settings.sampler}{pruner}")
        progress = Progress(total=total, done_before=done, n_at_once=self.n_at_once)
        try:
            self._launch(self._tasks(), progress, settings.batch or self.n_at_once)
        except KeyboardInterrupt:
            self.stop(max(0, total - len(self.study.numbers_with_result())), total, "trials")
        self._write(importance=True)
        if size is not None and len(self.study.numbers_with_result()) >= size < settings.n_trials:
            say(f"the space has {size} points, and each has had its trial: nothing is left to draw")
        if self.failed_in_a_row >= settings.max_failures:
            say(f"{self.failed_in_a_row} trials in a row failed: the search was stopped")
        return self._finish(list(self.jobs.values()))

    def _recall(self) -> None:
        """Read the trials of earlier commands; refuse to mix results of two configurations."""
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
                continue  # the trial was refused before; its point gets another try
            record = job.record()
            if record is not None and record.finished and record.config_hash != job.config_hash:
                raise UserError(
                    f"{job.folder} is a trial of another configuration: "
                    f"{difference(record.config, job.values)}; start another search with "
                    "hydra.sweep.dir=<folder>, or undo the change"
                )
            self.jobs[slug], self.numbers[slug] = job, trial.number

    def _tasks(self) -> Iterator[Task]:
        """Yield the trials to run, each drawn when it can start."""
        for drawn in self._drawn():
            slug = self._slug(drawn.values)
            self.study.note(drawn.number, "run", slug)
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
            if need == "nothing":  # the run finished, but the command ended before telling the study
                self.job_ended(job, stopped=False)
                continue
            if need == "run":
                self._make_room(job)
            # Before the job starts: a report then knows of one that was killed before its first record.
            write_sweep(self.folder, sys.argv, self.space.keys, list(self.jobs.values()))
            yield job, need == "resume"

    def _drawn(self) -> Iterator[Any]:
        """Yield interrupted trials, then failed points, then new ones, up to `n_trials` with a result."""
        taken = set()
        for drawn in self.study.open_trials():
            taken.add(drawn.number)
            yield drawn
        self.study.queue_failed()
        while self.failed_in_a_row < self.settings.max_failures:
            # Trials that still run count as well: with several at a time there would be too many.
            if len(taken | self.study.numbers_with_result()) >= self.settings.n_trials:
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
        slug = job_slug(self.space.keys, swept)
        other = self.jobs.get(slug)
        taken = other is not None and other.overrides != (*self.space.fixed, *swept)
        return job_slug(self.space.keys, swept, hashed=taken)

    def _overrides(self, job: Job, resume: bool) -> list[str]:
        return [
            *super()._overrides(job, resume),
            f"hydra.sweeper.trial={self.numbers[job.slug]}",
            f"hydra.sweeper.study_name={quoted(self.study_name)}",
        ]

    def job_ended(self, job: Job, stopped: bool) -> None:
        """Tell the study the result and count failures in a row; a trial that the user stopped stays open."""
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
