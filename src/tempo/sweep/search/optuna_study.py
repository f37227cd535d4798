"""Draw a search's trials from an Optuna study and store their results in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import optuna
import sqlalchemy.exc
from optuna.trial import FrozenTrial, TrialState, create_trial

from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tempo.sweep.search.sampler import DistinctSampler, distributions
from tempo.sweep.search.space import Choice, Space
from tempo.trainer.optuna_trial import (
    close_storage,
    make_pruner,
    open_storage,
    quiet_optuna,
    without_password,
)

IDENTITY = "tempo"
"""Attribute of a study that holds the search it was created for."""
STORAGE_ERRORS = (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError)


@dataclass(frozen=True)
class Drawn:
    """A trial to run: its number in the study and its value on each axis."""

    number: int
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of a search. `epochs` is the length of a run that is not stopped early."""

    storage: str
    study: str
    direction: Literal["minimize", "maximize"]
    sampler: str
    startup_trials: int
    pruner: str
    epochs: int
    seed: int
    folder: str


class SearchStudy:
    """A study that holds one search. A trial's result is taken from the record of its run.

    An interrupted trial stays open and resumes under its number. The next command queues a failed trial's
    point again, as a new trial.

    Raises:
        UserError: the storage cannot be reached, or has a study of that name for another search.
    """

    def __init__(self, plan: Plan, space: Space) -> None:
        self.plan = plan
        self.space = space
        self.distributions = distributions(space)
        self.sampler = DistinctSampler(space, plan.sampler, plan.seed, plan.startup_trials)
        self.storage: Any = None
        try:
            with quiet_optuna():
                self.storage = open_storage(plan.storage)
                self.study = optuna.create_study(
                    study_name=plan.study,
                    storage=self.storage,
                    direction=plan.direction,
                    sampler=self.sampler,
                    pruner=make_pruner(plan.pruner, plan.epochs),
                    load_if_exists=True,
                )
                self._check_identity()
        except UserError:
            self.close()
            raise
        except Exception as error:  # every database and driver has its own exceptions
            first_line = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
            why = without_password(f"{plan.storage} cannot be used: {first_line}")
            remedy = "hydra.sweeper.storage=sqlite is a file in the sweep's folder"
            if plan.folder in plan.storage:
                remedy = (
                    "delete the file and rerun the command: it draws its trials anew, and a point that has a "
                    "result is not trained again"
                )
            raise UserError(f"hydra.sweeper.storage={why}; {remedy}") from error

    def close(self) -> None:
        """Close the connection to the storage."""
        if self.storage is not None:
            close_storage(self.storage)

    def _check_identity(self) -> None:
        """Store this search's identity in a new study; compare it with an old study's."""
        mine: dict[str, Any] = {
            "space": self.space.words,
            "direction": self.plan.direction,
            "fixed": sorted(self.space.fixed),
        }
        if self.plan.folder not in self.plan.storage:  # a storage in the sweep's folder may move with it
            mine["folder"] = self.plan.folder
        known = self.study.user_attrs.get(IDENTITY)
        if known is None and not self.study.get_trials(deepcopy=False):
            self.study.set_user_attr(IDENTITY, mine)
        elif known != mine:
            raise UserError(
                f"the study {self.plan.study} was made for {_difference(known, mine)}; choose another with "
                "hydra.sweeper.study_name=<name>, or another folder with hydra.sweep.dir=<folder>"
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that have a point, in order."""
        # `study.trials` would copy every trial at each look.
        found = self.study.get_trials(deepcopy=False)
        return [trial for trial in found if set(self.space.names) <= set(trial.params)]

    def numbers_with_result(self) -> set[int]:
        """Return the numbers of trials with a result; a pruned trial has one."""
        with_result = (TrialState.COMPLETE, TrialState.PRUNED)
        return {trial.number for trial in self.trials if trial.state in with_result}

    def open_trials(self) -> list[Drawn]:
        """Return the interrupted trials; close those without a point, which were interrupted while drawn."""
        whole = {trial.number for trial in self.trials}
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number not in whole:
                self.study.tell(trial.number, state=TrialState.FAIL)
        return [
            Drawn(trial.number, self.space.rounded(trial.params))
            for trial in self.trials
            if trial.state == TrialState.RUNNING
        ]

    def queue_failed(self) -> None:
        """Queue every point whose trials have all failed, once each."""
        by_point: dict[Any, list[FrozenTrial]] = {}
        for trial in self.trials:
            by_point.setdefault(self.space.point(trial.params), []).append(trial)
        for trials in by_point.values():
            if all(trial.state == TrialState.FAIL for trial in trials):
                params = {name: trials[-1].params[name] for name in self.space.names}
                self.study.add_trial(
                    create_trial(state=TrialState.WAITING, params=params, distributions=self.distributions)
                )

    def draw(self) -> Drawn | None:
        """Return a queued trial, or else a new point; None if every point has had its trial."""
        self.sampler.known = {self.space.point(trial.params) for trial in self.trials}
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not waiting and self.space.size is not None and len(self.sampler.known) >= self.space.size:
            return None
        with quiet_optuna():
            trial = self.study.ask(self.distributions)
        return Drawn(trial.number, self.space.rounded(trial.params))

    def tell(self, number: int, record: RunRecord | None, reason: str = "") -> None:
        """Close a trial with the result in its run's record; an interrupted one stays open.

        A diverged run has no valid value, but the sampler must learn that its point is bad, so it is stored
        as a pruned trial.
        """
        status = "failed" if record is None else record.status
        self.note(number, "status", status)
        if words := reason or (record.reason if record is not None else ""):
            self.note(number, "reason", words[:1000])
        if status in ("running", "interrupted"):
            return
        value = record.objective.get("value") if record is not None else None
        with quiet_optuna():
            if status in ("pruned", "diverged"):
                self.study.tell(number, state=TrialState.PRUNED)
            elif status == "completed" and isinstance(value, (int, float)) and not math.isnan(value):
                self.study.tell(number, float(value))
            else:
                self.study.tell(number, state=TrialState.FAIL)

    def note(self, number: int, key: Literal["run", "status", "reason"], value: str) -> None:
        """Set an attribute of a trial; `run` is the name of its folder."""
        trial = self.study.get_trials(deepcopy=False)[number]
        if trial.user_attrs.get(key) != value:
            # Study has no public method to set an attribute of a trial that another process may hold.
            self.study._storage.set_trial_user_attr(trial._trial_id, key, value)

    def importance(self) -> dict[str, float]:
        """Return the importance of each axis for good trials (PED-ANOVA); empty if there are too few trials.

        Source: Watanabe, Bansal & Hutter, arXiv:2304.10255.
        """
        values = {trial.value for trial in self.trials if trial.state == TrialState.COMPLETE}
        if len(values) < 2:
            return {}
        with quiet_optuna():
            found = optuna.importance.get_param_importances(self.study)
        return {name: float(share) for name, share in found.items() if math.isfinite(share)}

    def as_plain(self, importance: bool) -> dict[str, Any]:
        """Return everything a report needs without Optuna; `importance` takes a second to load."""
        axes = zip(self.space.names, self.space.axes, strict=True)
        return {
            "sampler": self.plan.sampler,
            "pruner": self.plan.pruner,
            "seed": self.plan.seed,
            "mode": self.plan.direction[:3],
            "space": self.space.words,
            "log_axes": [name for name, axis in axes if not isinstance(axis, Choice) and axis.log],
            "importance": self.importance() if importance else {},
            "trials": [self._plain_trial(trial) for trial in self.trials],
        }

    def _plain_trial(self, trial: FrozenTrial) -> dict[str, Any]:
        by_epoch = sorted(trial.intermediate_values.items())
        return {
            "number": trial.number,
            "folder": trial.user_attrs.get("run", ""),
            "status": trial.user_attrs.get("status", trial.state.name.lower()),
            "reason": trial.user_attrs.get("reason", ""),
            "values": self.space.rounded(trial.params),
            "value": trial.value if trial.state == TrialState.COMPLETE else None,
            "by_epoch": {str(epoch): value for epoch, value in by_epoch if math.isfinite(value)},
        }


def _difference(then: Any, now: Mapping[str, Any]) -> str:
    if not isinstance(then, Mapping):
        return "something other than a tempo search"
    key = next(key for key in {**now, **then} if then.get(key) != now.get(key))
    return f"{key} {json.dumps(then.get(key))}, and this is {json.dumps(now.get(key))}"
