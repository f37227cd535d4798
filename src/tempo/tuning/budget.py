"""What a study may cost, what it has cost, and whether what is to come still fits."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from tempo.record.run_json import RunRecord
from tempo.tuning.plan import ROUNDING, RUNS_OF, SAFETY, Plan, Price, cut_words, fitted
from tempo.tuning.settings import TuneSettings
from tempo.tuning.stage_run import StageRunner

LEAST_SECONDS_A_RUN = 0.5


@dataclass
class Budget:
    """Plan, price and account of a study.

    Epochs are those of its runs. Minutes are those of the clock: imports, runs that failed and pictures count
    as much as training, and so do earlier calls of the same command.
    """

    settings: TuneSettings
    runner: StageRunner
    started: float = field(default_factory=time.perf_counter)
    """When this call began, by `time.perf_counter`."""
    seconds_before: float = 0.0
    """Of earlier calls."""
    plan: Plan | None = None
    cuts: list[str] = field(default_factory=list)
    price: Price = field(default_factory=lambda: Price("epochs"))

    @property
    def seconds(self) -> float:
        """Of the clock, over all calls."""
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def in_minutes(self) -> bool:
        """Whether the clock is what limits."""
        return self.settings.budget_minutes is not None

    @property
    def total(self) -> float | None:
        """In epochs or seconds; None = no limit."""
        minutes, epochs = self.settings.budget_minutes, self.settings.budget_epochs
        return epochs if minutes is None else 60.0 * minutes

    @property
    def left(self) -> float | None:
        """In epochs or seconds; None = no limit."""
        if self.total is None:
            return None
        return self.total - self.spent

    @property
    def spent(self) -> float:
        """In epochs or seconds."""
        return self.seconds if self.in_minutes else self.runner.epochs

    @property
    def words(self) -> str:
        """One line for the screen."""
        if self.total is None:
            return "none"
        said = self.price.words(self.total)
        if self.in_minutes:
            epoch, run = self.price.words(self.price.per_epoch), self.price.words(self.price.per_run)
            said += f", {self.price.words(self.seconds)} of them spent; an epoch is reckoned at {epoch}, "
            said += f"and each run at {run} besides"
        return said

    @property
    def of_words(self) -> str:
        """Behind what was spent: of how much."""
        return "" if self.total is None else f", of {self.price.words(self.total)}"

    def set_plan(self, wanted: Plan) -> None:
        """Settle the plan: what is wanted, cut to what there is; UserError where not even the least fits."""
        self.plan, self.cuts = fitted(wanted, self.price, self.spent, self.total)

    def fits(self, epochs: float, runs: int) -> bool:
        """Whether so much more can be run."""
        return self.left is None or self.price.of(epochs, runs) <= self.left + ROUNDING

    def cut_rest(self, over: Collection[str], done_epochs: int, done_runs: int) -> list[str]:
        """Cut what is to come to what is left, given the stages that are over; the cuts that are new.

        `done_*`: of the other runs, what an earlier call has done. Short runs keep their length, so that the
        runs of earlier stages still count.

        Raises:
            UserError: not even one epoch of the final run fits.
        """
        assert self.plan is not None
        gone = {RUNS_OF[stage]: 0 for stage in over}
        rest = replace(self.plan, range_epochs=0.0, **gone)
        keys = [key for key in ("compare_seeds", *RUNS_OF.values(), "final_epochs") if key not in gone]
        spent = self.spent - self.price.of(done_epochs, done_runs)
        cut, cuts = fitted(rest, self.price, spent, self.total, keys)
        self.plan = replace(self.plan, **{key: getattr(cut, key) for key in keys})
        self.cuts += cuts
        return cuts

    def stop_stage(self, stage: str, tried: int) -> str:
        """Try no more values in a stage than were tried; the words for it."""
        return self._limit(RUNS_OF[stage], tried)

    def stop_comparison(self, seeds: int) -> str:
        """Compare no more seeds than were run; the words for it."""
        return self._limit("compare_seeds", seeds)

    def _limit(self, key: str, value: int) -> str:
        assert self.plan is not None
        why = f"{self.price.words(max(0.0, self.left or 0.0))} are left, and the final run needs its part"
        said = f"{cut_words(key, getattr(self.plan, key), value)}: {why}"
        self.plan = replace(self.plan, **{key: value})
        self.cuts.append(said)
        return said

    def measure(self, val_share: float) -> None:
        """Take the price of an epoch and of a run from the runs of this call.

        `val_share`: images that an epoch validates, over test images.
        """
        if not self.in_minutes:
            return
        runs = [each for each in self.runner.fresh if each[0].status == "completed"]
        longest = max((record.epochs for record, _ in runs), default=0.0)
        # The first steps of a process are slow: a run of some epochs is a better measure than a probe.
        runs = [each for each in runs if each[0].epochs >= min(1.0, longest)]
        if not runs:
            return
        epochs = sum(record.epochs for record, _ in runs)
        training = sum(_in_epochs(record, val_share) for record, _ in runs)
        besides = (sum(seconds for _, seconds in runs) - training) / len(runs)
        self.price = Price("seconds", SAFETY * training / epochs, SAFETY * max(besides, LEAST_SECONDS_A_RUN))


def _in_epochs(record: RunRecord, val_share: float) -> float:
    """Seconds of training and of its validations."""
    return record.seconds["train"] + record.epochs * val_share * record.seconds["test"]
