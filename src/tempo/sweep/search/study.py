"""The study of a search: what was drawn, what came of it, what is to be drawn next."""

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
from tempo.trainer.search_trial import (
    close_storage,
    make_pruner,
    open_storage,
    quiet_optuna,
    without_password,
)

IDENTITY = "tempo"
"""The attribute of a study that says what it was made for."""
STORAGE_ERRORS = (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError)
RESULTS = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Drawn:
    """A trial to be run: its number in the study and its value on each axis."""

    number: int
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a search was asked for. `epochs` is the length of a run that is not stopped."""

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
    """A study that holds one search. Trials are told what the record of their run says.

    A trial that was cut stays open and goes on under its number; one that failed is put into the queue again
    by the next command, as a new trial of the same point.

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
                self._claim()
        except UserError:
            self.close()
            raise
        except Exception as error:  # each data base and driver has its own
            why = without_password(f"{plan.storage} cannot be used: {_first_line(error)}")
            raise UserError(
                f"hydra.sweeper.storage={why}; hydra.sweeper.storage=sqlite is a file in the sweep's folder"
            ) from error

    def close(self) -> None:
        """End the connection to the storage."""
        if self.storage is not None:
            close_storage(self.storage)

    def _claim(self) -> None:
        """Write into a new study what it is for; check it in an old one."""
        inside = self.plan.folder in self.plan.storage  # moves with the sweep
        mine: dict[str, Any] = {
            "space": self.space.words,
            "direction": self.plan.direction,
            "fixed": sorted(self.space.fixed),
        }
        mine |= {} if inside else {"folder": self.plan.folder}
        known = self.study.user_attrs.get(IDENTITY)
        if known is None and not self.study.get_trials(deepcopy=False):
            self.study.set_user_attr(IDENTITY, mine)
        elif known != mine:
            raise UserError(
                f"the study {self.plan.study} was made for {_difference(known, mine)}: choose another with "
                "hydra.sweeper.study_name=<name>, or another folder with hydra.sweep.dir=<folder>"
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that have a point, in order."""
        found = self.study.get_trials(deepcopy=False)
        return [each for each in found if set(self.space.names) <= set(each.params)]

    def numbers_with_result(self) -> set[int]:
        """Trials that came to one; a pruned trial has."""
        return {each.number for each in self.trials if each.state in RESULTS}

    @property
    def results(self) -> int:
        """How many came to a result."""
        return len(self.numbers_with_result())

    def open_trials(self) -> list[Drawn]:
        """Those that were cut. What was cut while it was drawn is closed, nothing is lost with it."""
        whole = {each.number for each in self.trials}
        for each in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if each.number not in whole:
                self.study.tell(each.number, state=TrialState.FAIL)
        return [self._drawn(each) for each in self.trials if each.state == TrialState.RUNNING]

    def queue_failed(self) -> None:
        """Queue each point that has no more than failures, once."""
        by_point: dict[Any, list[FrozenTrial]] = {}
        for each in self.trials:
            by_point.setdefault(self.space.point(each.params), []).append(each)
        for trials in by_point.values():
            if all(each.state == TrialState.FAIL for each in trials):
                params = {name: trials[-1].params[name] for name in self.space.names}
                self.study.add_trial(
                    create_trial(state=TrialState.WAITING, params=params, distributions=self.distributions)
                )

    def draw(self) -> Drawn | None:
        """The next trial: one of the queue, else a new point; None where every point has had its trial."""
        self.sampler.known = {self.space.point(each.params) for each in self.trials}
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not waiting and self.space.size is not None and len(self.sampler.known) >= self.space.size:
            return None
        with quiet_optuna():
            trial = self.study.ask(self.distributions)
        return Drawn(trial.number, self.space.rounded(trial.params))

    def tell(self, number: int, record: RunRecord | None, reason: str = "") -> None:
        """Close a trial by the record of its run; one that was cut stays open.

        A diverged run has no value that counts, and the sampler must know how bad its point is: like one that
        the pruner stopped, it is a pruned trial.
        """
        status = "failed" if record is None else record.status
        self._note(number, "status", status)
        if words := reason or (record.reason if record is not None else ""):
            self._note(number, "reason", words[:1000])
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

    def place(self, number: int, slug: str) -> None:
        """Note where a trial runs."""
        self._note(number, "run", slug)

    def _note(self, number: int, key: str, value: str) -> None:
        trial = self.study.get_trials(deepcopy=False)[number]
        if trial.user_attrs.get(key) != value:
            # Study has no public way to write an attribute of a trial that another process may hold.
            self.study._storage.set_trial_user_attr(trial._trial_id, key, value)

    def importance(self) -> dict[str, float]:
        """Share of each axis in what sets good trials apart (PED-ANOVA); empty where there is too little.

        Source: Watanabe, Bansal & Hutter, arXiv:2304.10255.
        """
        values = {each.value for each in self.trials if each.state == TrialState.COMPLETE}
        if len(values) < 2:
            return {}
        with quiet_optuna():
            found = optuna.importance.get_param_importances(self.study)
        return {name: float(share) for name, share in found.items() if math.isfinite(share)}

    def as_plain(self, importance: bool) -> dict[str, Any]:
        """Everything that a report needs, so that it needs no Optuna; `importance` takes a second to load."""
        axes = zip(self.space.names, self.space.axes, strict=True)
        return {
            "sampler": self.plan.sampler,
            "pruner": self.plan.pruner,
            "seed": self.plan.seed,
            "mode": self.plan.direction[:3],
            "space": self.space.words,
            "log_axes": [name for name, axis in axes if not isinstance(axis, Choice) and axis.log],
            "importance": self.importance() if importance else {},
            "trials": [self._plain_trial(each) for each in self.trials],
        }

    def _plain_trial(self, trial: FrozenTrial) -> dict[str, Any]:
        return {
            "number": trial.number,
            "folder": trial.user_attrs.get("run", ""),
            "status": trial.user_attrs.get("status", trial.state.name.lower()),
            "reason": trial.user_attrs.get("reason", ""),
            "values": self.space.rounded(trial.params),
            "value": trial.value if trial.state == TrialState.COMPLETE else None,
            "by_epoch": {
                str(epoch): value
                for epoch, value in sorted(trial.intermediate_values.items())
                if math.isfinite(value)
            },
        }

    def _drawn(self, trial: FrozenTrial) -> Drawn:
        return Drawn(trial.number, self.space.rounded(trial.params))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _difference(then: Any, now: Mapping[str, Any]) -> str:
    if not isinstance(then, Mapping):
        return "something else than a search of tempo"
    key = next(key for key in {**now, **then} if then.get(key) != now.get(key))
    return f"{key} {json.dumps(then.get(key))}, and this is {json.dumps(now.get(key))}"
