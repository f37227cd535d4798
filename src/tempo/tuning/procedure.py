"""The procedure of radiuk2020: range test, momentum, weight decay, batch size, one 1cycle run."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import nn

from tempo.config.schema import RunConfig
from tempo.errors import UserError
from tempo.report.load_runs import Run
from tempo.report.number_format import SMOKE
from tempo.run.build_data import build_data
from tempo.run.build_network import build_network
from tempo.tuning.budget import Budget
from tempo.tuning.candidates import batch_sizes, bounds, momenta, number, weight_decays
from tempo.tuning.choice import Candidate, Choice, choose, early_metric, score
from tempo.tuning.plan import RUNS_OF, Plan
from tempo.tuning.range_run import conclude
from tempo.tuning.range_test import RangeTestResult, analyse
from tempo.tuning.settings import NO_VALIDATION, TuneSettings
from tempo.tuning.stage_run import StageRunner, StudyInterrupted
from tempo.tuning.state import known, write_state

AS_IT_WAS = Candidate("as it was", (), None)
DEEP_FROM_LAYERS = 10
"""Networks with so many layers of weights count as deep."""
SPEED_STEPS = 20
"""Of the run that measures the speed, where minutes are planned."""


@dataclass
class Procedure:
    """The stages in order; each adds overrides to those before it."""

    runner: StageRunner
    settings: TuneSettings
    config: RunConfig
    """Of the default setting."""
    budget: Budget
    chosen: list[str] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    comparison: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.metric = early_metric(str(self.config["model"]["_target_"]))
        data = build_data(self.config)
        if data.val is None:
            raise UserError(NO_VALIDATION)
        self.steps_per_epoch = len(data.train) // self.config["data"]["total_batch_size"]
        self.train_images = len(data.train)
        network = build_network(
            self.config.model, self.config.seed, data.train.shape, len(data.train.classes)
        )
        layers = sum(isinstance(each, (nn.Conv2d, nn.Linear)) for each in network.modules())
        self.deep = layers >= DEEP_FROM_LAYERS
        self.depth_words = f"{layers} layers of weights: {'deep' if self.deep else 'shallow'}"
        every = self.config["trainer"]["val_every_n_epochs"]
        self.val_share = len(data.val) / len(data.test) / every
        self.smoke = self.config["scale"] == "smoke"

    def run(self) -> Run:
        """All stages up to the final run.

        Raises:
            UserError: the range test supports no proposal, the budget is too small, or the folder has a
                study of other overrides.
            StudyInterrupted: stopped by the user.
        """
        self._plan()
        learning_rates = self._range_test()
        # The last tenth of a 1cycle run is there to end in a good state: an earlier one is not looked for.
        self.chosen = ["scheduler=onecycle", "checkpoint.select=last"]
        self._stage("learning rate", learning_rates)
        self._stage("momentum", self._momenta())
        self._stage("weight decay", self._weight_decays())
        self._stage("batch size", self._batch_sizes())
        return self._final_run()

    @property
    def plan(self) -> Plan:
        """As it stands: what has been cut is cut."""
        assert self.budget.plan is not None
        return self.budget.plan

    def _plan(self) -> None:
        """Settle what is run, or take up what an earlier call has settled, and say so with every cut."""
        before, budget = known(self.runner.folder, self._command()), self.budget
        budget.seconds_before = before.seconds
        if before.plan is not None and before.price is not None:
            budget.plan, budget.price, budget.cuts = before.plan, before.price, before.cuts
        else:
            if budget.in_minutes:
                self.save()
                self._measure_speed()
            budget.set_plan(self._wanted())
        print(f"plan      {self.plan.words}; {self.depth_words}")
        print(f"budget    {budget.words}")
        self._say_cuts(budget.cuts)
        self.save()

    def _wanted(self) -> Plan:
        epochs, short = int(self.config["trainer"]["epochs"]), self.settings.short_epochs
        return Plan(
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

    def _measure_speed(self) -> None:
        print(f"speed     a run of {SPEED_STEPS} steps measures it: the plan is in minutes")
        self.runner.run("speed", [f"trainer.max_steps={SPEED_STEPS}", "checkpoint.select=last"])
        self.budget.measure(self.val_share)

    def _range_test(self) -> list[Candidate]:
        print("stage     LR range test")
        more = [
            "scheduler=range_test",
            f"trainer.max_steps={self.settings.range_steps}",
            "trainer.log_every_n_steps=1",
            "divergence.factor=4.0",
        ]
        run = self.runner.run("range_test", more)
        self.budget.measure(self.val_share)
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
        return bounds(proposal)

    def _momenta(self) -> list[Candidate]:
        return momenta(self.config["optimizer"], self.settings.momenta)

    def _weight_decays(self) -> list[Candidate]:
        return weight_decays(self.settings.weight_decays, deep=self.deep, train_images=self.train_images)

    def _batch_sizes(self) -> list[Candidate]:
        return batch_sizes(self.settings.batch_sizes, self.config.values, self.train_images)

    def _stage(self, stage: str, candidates: list[Candidate]) -> None:
        tried: list[Candidate] = []
        print(f"stage     {stage}")
        if len(candidates) > 1:
            over = list(RUNS_OF)[: list(RUNS_OF).index(stage)]
            planned = candidates[: getattr(self.plan, RUNS_OF[stage])]
            todo = [len(self._todo(self._short_runs(stage, each))) for each in planned]
            if any(todo):
                done = len(planned) * self.plan.short_seeds - sum(todo)
                self._say_cuts(self.budget.cut_rest(over, done * self.plan.short_epochs, done))
        for each in candidates:
            if len(candidates) == 1:
                tried.append(replace(each, outcome=each.outcome or "the only value"))
            elif len(tried) < getattr(self.plan, RUNS_OF[stage]) and self._affordable(
                stage, each, len(tried)
            ):
                tried.append(self._try(stage, each))
            else:
                tried.append(replace(each, outcome=each.outcome or "not run: the budget"))
        # Without evidence the bounds are those of the range test, and everything else stays as it was.
        untried = tried[-1] if stage == "learning rate" or len(tried) == 1 else AS_IT_WAS
        choice = choose(stage, self.metric, tried, untried)
        print("\n".join(f"choice    {line}" for line in choice.lines))
        self.chosen += choice.chosen.overrides
        self.choices.append(choice)
        self.evidence += choice.lines
        self.save()

    def _short_runs(self, stage: str, candidate: Candidate) -> list[tuple[str, list[str]]]:
        """Name and overrides of a candidate's runs, one a seed."""
        name = f"{stage} {candidate.label}".replace(" ", "_")
        overrides = [*self.chosen, *candidate.overrides, f"trainer.epochs={self.plan.short_epochs}"]
        first = self.config["seed"]
        seeds = range(first, first + self.plan.short_seeds)
        return [(f"{name}_seed{seed}", [*overrides, f"seed={seed}"]) for seed in seeds]

    def _todo(self, runs: Sequence[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
        return [each for each in runs if self.runner.need(*each) != "nothing"]

    def _affordable(self, stage: str, candidate: Candidate, tried: int) -> bool:
        """Whether a candidate leaves enough for the final run; the stage ends where it does not."""
        todo = len(self._todo(self._short_runs(stage, candidate)))
        epochs = todo * self.plan.short_epochs + self.plan.final_epochs
        if not todo or self.budget.fits(epochs, todo + 1):
            return True
        self._say_cuts([self.budget.stop_stage(stage, tried)])
        return False

    def _try(self, stage: str, candidate: Candidate) -> Candidate:
        """The candidate with its scores; one that cannot run (a batch too large for it) has failed."""
        try:
            runs = [self.runner.run(*each) for each in self._short_runs(stage, candidate)]
        except StudyInterrupted:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other candidates may run
            failed = replace(candidate, outcome=f"failed: {_reason(error)}")
        else:
            self.budget.measure(self.val_share)
            return self._scored(candidate, runs)
        gc.collect()  # a trainer refers to itself, so what it holds on the device stays until then
        return failed

    def _scored(self, candidate: Candidate, runs: Sequence[Run]) -> Candidate:
        why = "diverged" if any(each.record.status == "diverged" for each in runs) else "no validation"
        return replace(candidate, scores=tuple(score(each, self.metric) for each in runs), outcome=why)

    def _full_run(self, overrides: Sequence[str], name: str, seed: int) -> tuple[str, list[str]]:
        return f"{name}_seed{seed}", [*overrides, f"trainer.epochs={self.plan.final_epochs}", f"seed={seed}"]

    def _pair(self, seed: int) -> list[tuple[str, list[str]]]:
        return [self._full_run(self.chosen, "final_tuned", seed), self._full_run([], "final_default", seed)]

    def _final_run(self) -> Run:
        first = self.config["seed"]
        if self.runner.need(*self._pair(first)[0]) == "run":
            self._say_cuts(self.budget.cut_rest(RUNS_OF, 0, 0))
        self.save()
        print(f"stage     final_tuned, seed {first}")
        return self.runner.run(*self._pair(first)[0])

    def compare(self) -> tuple[list[Run], list[Run]]:
        """Runs of the tuned and of the default setting, the same seeds and epochs; none without seeds."""
        first = self.config["seed"]
        ours: list[Run] = []
        default: list[Run] = []
        for seed in range(first, first + self.plan.compare_seeds):
            self.budget.measure(self.val_share)
            todo = len(self._todo(self._pair(seed)))
            if todo and not self.budget.fits(todo * self.plan.final_epochs, todo):
                self._say_cuts([self.budget.stop_comparison(len(ours))])
                break
            for runs, each in zip((ours, default), self._pair(seed), strict=True):
                if each[0] != f"final_tuned_seed{first}":
                    print(f"stage     {each[0].removesuffix(f'_seed{seed}')}, seed {seed}")
                runs.append(self.runner.run(*each))
        return ours, default

    def _say_cuts(self, cuts: Sequence[str]) -> None:
        print("".join(f"cut       {each}\n" for each in cuts), end="")

    def _command(self) -> dict[str, Any]:
        """What the user asked for, as JSON has it."""
        return {"overrides": sorted(self.runner.overrides), "settings": asdict(self.settings)}

    def save(self) -> None:
        """Replace the study's tune.json."""
        budget = self.budget
        state = {
            **({"label": SMOKE} if self.smoke else {}),
            **self._command(),
            "plan": None if budget.plan is None else budget.plan.as_json(),
            "cuts": budget.cuts,
            "price": asdict(budget.price),
            "rule_metric": self.metric,
            "choices": [each.as_json() for each in self.choices],
            "chosen": self.chosen,
            "comparison": self.comparison,
            "seconds": budget.seconds,
            "epochs": self.runner.epochs,
            "runs": len(self.runner.runs),
        }
        write_state(self.runner.folder, state)


def _runs(candidates: Sequence[Candidate]) -> int:
    """A single value needs no run."""
    return len(candidates) if len(candidates) > 1 else 0


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
