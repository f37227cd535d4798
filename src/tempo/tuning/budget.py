"""Budget of the procedure: the cost so far, and whether the remaining stages still fit."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from tempo.record.run_json import RunRecord
from tempo.tuning.plan import ROUNDING, RUNS_OF, Plan, Price, cut_to_fit, cut_words
from tempo.tuning.stage_runs import StageRuns
from tempo.tuning.tune_settings import TuneSettings

SAFETY = 1.15
"""Factor by which runs may be slower than measured."""
LEAST_SECONDS_PER_RUN = 0.5


@dataclass
class Budget:
    """The plan of the procedure with its price and the cost so far.

    Epochs are counted over all runs. Minutes are wall-clock time, including imports, failed runs, figures and
    earlier calls of the same command.
    """

    settings: TuneSettings
    runs: StageRuns
    started: float = field(default_factory=time.perf_counter)
    """Start of this call, by `time.perf_counter`."""
    seconds_before: float = 0.0
    """Seconds of earlier calls."""
    plan: Plan | None = None
    cuts: list[str] = field(default_factory=list)
    price: Price = field(default_factory=lambda: Price("epochs"))

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all calls."""
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def in_minutes(self) -> bool:
        """Whether the budget limits time, not epochs."""
        return self.settings.budget_minutes is not None

    @property
    def total(self) -> float | None:
        """Budget in epochs or seconds; None for no limit."""
        minutes, epochs = self.settings.budget_minutes, self.settings.budget_epochs
        return epochs if minutes is None else 60.0 * minutes

    @property
    def spent(self) -> float:
        """Epochs or seconds spent."""
        return self.seconds if self.in_minutes else self.runs.epochs

    @property
    def left(self) -> float | None:
        """Epochs or seconds left; None for no limit."""
        return None if self.total is None else self.total - self.spent

    def __str__(self) -> str:
        """Describe the budget in one line."""
        if self.total is None:
            return "none"
        price, total = self.price, self.price.amount(self.total)
        if not self.in_minutes:
            return total
        return (
            f"{total}, of which {price.amount(self.seconds)} are spent; estimated "
            f"{price.amount(price.per_epoch)} per epoch and {price.amount(price.per_run)} more per run"
        )

    def set_plan(self, wanted: Plan) -> None:
        """Set the plan, cut to fit the budget; raise UserError if even the shortest plan does not fit."""
        self.plan, self.cuts = cut_to_fit(wanted, self.price, self.spent, self.total)

    def fits(self, epochs: float, runs: int) -> bool:
        """Whether this many epochs in this many runs still fit."""
        return self.left is None or self.price.of(epochs, runs) <= self.left + ROUNDING

    def cut_rest(self, finished_stages: Collection[str], done_epochs: int, done_runs: int) -> list[str]:
        """Cut the remaining stages to fit the remaining budget, and return one line per new cut.

        An earlier call has already run `done_epochs` and `done_runs` of these stages. Short runs keep their
        length, so that those of earlier stages can be reused.

        Raises:
            UserError: not even one epoch of the final run fits.
        """
        assert self.plan is not None
        finished = {RUNS_OF[stage]: 0 for stage in finished_stages}
        rest = replace(self.plan, range_epochs=0.0, **finished)
        keys = [key for key in ("compare_seeds", *RUNS_OF.values(), "final_epochs") if key not in finished]
        spent = self.spent - self.price.of(done_epochs, done_runs)
        cut, cuts = cut_to_fit(rest, self.price, spent, self.total, keys)
        self.plan = replace(self.plan, **{key: getattr(cut, key) for key in keys})
        self.cuts += cuts
        return cuts

    def limit(self, key: str, value: int) -> str:
        """Lower a number in the plan to the count done when the budget ran out; return the cut's line."""
        assert self.plan is not None
        left = self.price.amount(max(0.0, self.left or 0.0))
        line = (
            f"{cut_words(key, getattr(self.plan, key), value)}: {left} are left, and the final run needs them"
        )
        self.plan = replace(self.plan, **{key: value})
        self.cuts.append(line)
        return line

    def measure(self, val_share: float) -> None:
        """Estimate the price of an epoch and of a run from the runs that this call started.

        `val_share` is the number of images validated per epoch divided by the number of test images.
        """
        completed = [(record, clock) for record, clock in self.runs.fresh if record.status == "completed"]
        if not self.in_minutes or not completed:
            return
        # The first steps of a process are slow, so a run of a full epoch measures better than the speed run.
        longest = max(record.epochs for record, _ in completed)
        measured = [(record, clock) for record, clock in completed if record.epochs >= min(1.0, longest)]
        training = sum(_seconds_in_epochs(record, val_share) for record, _ in measured)
        per_epoch = training / sum(record.epochs for record, _ in measured)
        per_run = (sum(clock for _, clock in measured) - training) / len(measured)
        self.price = Price("seconds", SAFETY * per_epoch, SAFETY * max(per_run, LEAST_SECONDS_PER_RUN))


def _seconds_in_epochs(record: RunRecord, val_share: float) -> float:
    """Return the seconds of a run's training and validations."""
    return record.seconds["train"] + record.epochs * val_share * record.seconds["test"]
