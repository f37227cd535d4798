"""The procedure of radiuk2020: range test, momentum, weight decay, batch size, one 1cycle run."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import nn

from tempo import compose
from tempo.errors import UserError
from tempo.networks import build_network
from tempo.report.load import Run
from tempo.report.wording import duration
from tempo.study.choice import Candidate, Choice, choose, early_metric, number, score
from tempo.study.plan import SAFETY, Cost, Plan, fitted
from tempo.study.proposal import BOUNDS_RATIO, EDGE_MARGIN, rounded_down, two_digits
from tempo.study.range_run import conclude
from tempo.study.range_test import RangeTestResult, analyse
from tempo.study.stage_run import StageRunner, StudyInterrupted
from tempo.study.state import known_plan, write_state
from tempo.tune_settings import TuneSettings

AS_IT_WAS = Candidate("as it was", (), None)
SMALL_DATA = 10_000
"""Training images below which a data set counts as simple, so that it needs more regularisation."""
MUCH_LARGER = 2.0
DEEP_FROM_LAYERS = 10
"""Networks with so many layers of weights count as deep."""


@dataclass
class Procedure:
    """The stages in order; each adds overrides to those before it."""

    runner: StageRunner
    settings: TuneSettings
    config: dict[str, Any]
    """Of the default setting."""
    chosen: list[str] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    known: Plan | None = None
    """The plan of an earlier call, which goes on."""

    def __post_init__(self) -> None:
        self.metric = early_metric(str(self.config["model"]["_target_"]))
        data = compose.build_data(self.config)
        if data.val is None:
            raise UserError("the stages choose by validation, and data.val_size=0: data.val_size=0.1")
        self.steps_per_epoch = len(data.train) // self.config["data"]["total_batch_size"]
        self.train_images = len(data.train)
        network = build_network(self.config, data.train.shape, len(data.train.classes))
        layers = sum(isinstance(each, (nn.Conv2d, nn.Linear)) for each in network.modules())
        self.deep = layers >= DEEP_FROM_LAYERS
        self.depth_words = f"{layers} layers of weights: {'deep' if self.deep else 'shallow'}"

    def run(self) -> Run:
        """All stages up to the final run.

        Raises:
            UserError: the range test supports no proposal, the budget is too small, or the folder has a
                study of other overrides.
            StudyInterrupted: stopped by the user.
        """
        self.known = known_plan(self.runner.folder, self._command())
        if self.settings.budget_minutes is None:
            self._plan(self._epochs_cost())
        bounds = self._range_test()
        if self.settings.budget_minutes is not None:
            self._plan(self._minutes_cost())
        # The last tenth of a 1cycle run is there to end in a good state: an earlier one is not looked for.
        self.chosen = ["scheduler=onecycle", "checkpoint.select=last"]
        self._stage("learning rate", bounds, self.plan.lr_runs)
        self._stage("momentum", self._momenta(), self.plan.momentum_runs)
        self._stage("weight decay", self._weight_decays(), self.plan.decay_runs)
        self._stage("batch size", self._batch_sizes(), self.plan.batch_runs)
        return self._final(self.chosen, "final_tuned", self.config["seed"])

    def compare(self, tuned: Run) -> tuple[list[Run], list[Run]]:
        """Runs of the tuned and of the default setting, the same seeds and epochs; none without seeds."""
        first, seeds = self.config["seed"], self.plan.compare_seeds
        if not seeds:
            return [], []
        ours, default = [tuned], [self._final([], "final_default", first)]
        for seed in range(first + 1, first + seeds):
            ours.append(self._final(self.chosen, "final_tuned", seed))
            default.append(self._final([], "final_default", seed))
        return ours, default

    def _plan(self, cost: Cost) -> None:
        epochs = int(self.config["trainer"]["epochs"])
        short = self.settings.short_epochs
        wanted = Plan(
            range_epochs=self.settings.range_steps / self.steps_per_epoch,
            short_seeds=self.settings.short_seeds,
            short_epochs=min(epochs, max(2, round(epochs / 4)) if short == "auto" else short),
            lr_runs=2,
            momentum_runs=_runs(self._momenta()),
            decay_runs=_runs(self._weight_decays()),
            batch_runs=_runs(self._batch_sizes()),
            final_epochs=epochs,
            compare_seeds=self.settings.compare_seeds,
        )
        if self.settings.budget_minutes is not None:
            wanted = replace(wanted, range_epochs=0.0)
        known = self.known
        self.plan, self.cuts = (known, []) if known else fitted(wanted, cost)
        print(f"plan      {self.plan.words}; {self.depth_words}")
        if self.settings.budget_minutes is not None and not known:
            print(
                f"          {duration(cost.of(self.plan))} expected of {duration(cost.available or 0)} left"
            )
        if self.cuts:
            print(f"          cut to the budget: {self.cuts[-1]}")
        self._save()

    def _epochs_cost(self) -> Cost:
        budget = self.settings.budget_epochs
        return Cost(1.0, 0.0, None if budget is None else float(budget))

    def _minutes_cost(self) -> Cost:
        """Measured on the range test: training with its validations, and what each run costs besides."""
        record = self.runner.runs[0].record
        train = max(record.seconds.get("train", 0.0), 1e-3)
        per_run = record.seconds.get("startup", 0.0) + record.seconds.get("test", 0.0)
        per_epoch = max(train, record.seconds.get("total", train) - per_run) / max(record.epochs, 1e-9)
        assert self.settings.budget_minutes is not None
        left = 60.0 * self.settings.budget_minutes - self.runner.seconds
        return Cost(SAFETY * per_epoch, SAFETY * max(per_run, 0.5), left)

    def _range_test(self) -> list[Candidate]:
        """The bounds that the curve proposes; before them larger ones where it leaves room for them."""
        print("stage     LR range test")
        more = [
            "scheduler=range_test",
            f"trainer.max_steps={self.settings.range_steps}",
            "trainer.log_every_n_steps=1",
            "divergence.factor=4.0",
        ]
        run = self.runner.run("range_test", more)
        conclude(run.folder)
        result: RangeTestResult = analyse(run.folder)
        if result.best is None:
            why = result.settings[0].proposal
            raise UserError(
                f"the range test supports no bounds: {why.why_not}; see {run.folder / 'lr_range.png'}, and "
                f"try `python src/lr_range.py` with {why.go_on}"
            )
        proposal = result.best.proposal
        low, high = number(proposal.min_lr or 0.0), number(proposal.max_lr or 0.0)
        self.evidence.append(
            f"range test: {low} to {high} (min_lr: {proposal.min_lr_reason}; max_lr: "
            f"{proposal.max_lr_reason})"
        )
        proposed = _bounds(proposal.max_lr or 0.0)
        edge = result.best.proposal.points.edge if result.best.proposal.points else None
        if edge is None or edge / EDGE_MARGIN < MUCH_LARGER * (proposal.max_lr or 0.0):
            return [proposed]
        return [_bounds(rounded_down(edge / EDGE_MARGIN)), proposed]

    def _momenta(self) -> list[Candidate]:
        """Cyclical momentum first: it is what the paper recommends."""
        if not self.config["optimizer"].get("momentum"):
            off = ("scheduler.min_momentum=null", "scheduler.max_momentum=null")
            return [Candidate("left alone", off, None, outcome="the optimizer has no momentum to choose")]
        constant = [
            Candidate(
                f"momentum {number(each)}",
                (
                    f"optimizer.momentum={number(each)}",
                    "scheduler.min_momentum=null",
                    "scheduler.max_momentum=null",
                ),
                each,
            )
            for each in self.settings.momenta
        ]
        return [Candidate("cyclical 0.95 to 0.85", (), "cyclical"), *constant]

    def _weight_decays(self) -> list[Candidate]:
        values: Sequence[float] = [1e-4, 1e-5, 1e-6, 0.0] if self.deep else [1e-3, 1e-2, 1e-4]
        if self.deep and self.train_images < SMALL_DATA:
            values = [1e-4, 1e-3, 1e-5, 0.0]
        if self.settings.weight_decays != "auto":
            values = self.settings.weight_decays
        return [Candidate(f"wd {number(each)}", (f"optimizer.wd={number(each)}",), each) for each in values]

    def _batch_sizes(self) -> list[Candidate]:
        own = int(self.config["data"]["total_batch_size"])
        sizes = [own, 2 * own, own // 2]
        if self.settings.batch_sizes != "auto":
            sizes = list(self.settings.batch_sizes)
        trainer = self.config["trainer"]
        parts = trainer["devices"] * trainer["num_nodes"] * trainer["accumulate"]
        kept = [
            each for each in sizes if each >= parts and each % parts == 0 and each <= self.train_images // 4
        ]
        return [Candidate(f"TBS {each}", (f"data.total_batch_size={each}",), each) for each in kept or [own]]

    def _stage(self, stage: str, candidates: list[Candidate], planned: int) -> None:
        tried: list[Candidate] = []
        print(f"stage     {stage}")
        for each in candidates:
            if len(candidates) == 1 or len(tried) >= planned or not self._affordable():
                outcome = each.outcome or (
                    "the only value" if len(candidates) == 1 else "not run: the budget"
                )
                tried.append(replace(each, outcome=outcome))
                continue
            tried.append(self._try(f"{stage} {each.label}".replace(" ", "_"), each))
        # Without evidence the bounds are those of the range test, and everything else stays as it was.
        untried = tried[-1] if stage == "learning rate" or len(tried) == 1 else AS_IT_WAS
        choice = choose(stage, self.metric, tried, untried)
        print("\n".join(f"choice    {line}" for line in choice.lines))
        self.chosen += choice.chosen.overrides
        self.choices.append(choice)
        self.evidence += choice.lines
        self._save()

    def _try(self, name: str, candidate: Candidate) -> Candidate:
        """The candidate with its scores; one that cannot run (a batch too large for it) has failed."""
        first, length = self.config["seed"], f"trainer.epochs={self.plan.short_epochs}"
        overrides = [*self.chosen, *candidate.overrides, length]
        try:
            runs = [
                self.runner.run(f"{name}_seed{seed}", [*overrides, f"seed={seed}"])
                for seed in range(first, first + self.plan.short_seeds)
            ]
        except StudyInterrupted:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other candidates may run
            failed = replace(candidate, outcome=f"failed: {_reason(error)}")
        else:
            return self._scored(candidate, runs)
        gc.collect()  # a trainer refers to itself, so what it holds on the device stays until then
        return failed

    def _scored(self, candidate: Candidate, runs: Sequence[Run]) -> Candidate:
        why = "diverged" if any(each.record.status == "diverged" for each in runs) else "no validation"
        return replace(candidate, scores=tuple(score(each, self.metric) for each in runs), outcome=why)

    def _affordable(self) -> bool:
        """Whether one more short run leaves enough of a budget of minutes for the final run."""
        if self.settings.budget_minutes is None or self.runner.epochs == 0:
            return True
        per_epoch = self.runner.seconds / self.runner.epochs
        short = self.plan.short_epochs * self.plan.short_seeds
        needed = per_epoch * (short + self.plan.final_epochs)
        return self.runner.seconds + needed <= 60.0 * self.settings.budget_minutes

    def _final(self, overrides: Sequence[str], name: str, seed: int) -> Run:
        length = [f"trainer.epochs={self.plan.final_epochs}"]
        print(f"stage     {name}, seed {seed}")
        return self.runner.run(f"{name}_seed{seed}", [*overrides, *length, f"seed={seed}"])

    def _command(self) -> dict[str, Any]:
        """What the user asked for, as JSON has it."""
        return {"overrides": sorted(self.runner.overrides), "settings": asdict(self.settings)}

    def _save(self) -> None:
        state = {
            **self._command(),
            "plan": self.plan.as_json(),
            "rule_metric": self.metric,
            "choices": [each.as_json() for each in self.choices],
            "chosen": self.chosen,
            "seconds": self.runner.seconds,
            "epochs": self.runner.epochs,
        }
        write_state(self.runner.folder, state)


def _runs(candidates: Sequence[Candidate]) -> int:
    """A single value needs no run."""
    return len(candidates) if len(candidates) > 1 else 0


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"


def _bounds(max_lr: float) -> Candidate:
    low, high = number(two_digits(max_lr / BOUNDS_RATIO)), number(max_lr)
    overrides = (f"scheduler.min_lr={low}", f"scheduler.max_lr={high}")
    return Candidate(f"{low} to {high}", overrides, [float(low), float(high)])
