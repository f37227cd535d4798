"""The stages of radiuk2020: range test, learning rate, batch size, momentum, weight decay, one 1cycle run."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytorch_lightning as pl
from torch import nn

from tempo.config.check import check
from tempo.config.schema import SMOKE, RunConfig
from tempo.errors import UserError
from tempo.report.load_runs import Run
from tempo.report.number_format import duration
from tempo.run.build_data import build_data
from tempo.run.build_network import build_model
from tempo.tuning.budget import Budget
from tempo.tuning.candidates import batch_sizes, learning_rates, momenta, number, weight_decays
from tempo.tuning.choice import ONLY_VALUE, Candidate, Choice, choose, early_metric, rule, score
from tempo.tuning.plan import ORDERS, RUNS_OF, Plan
from tempo.tuning.range_test import conclude
from tempo.tuning.stage_runs import ProcedureInterrupted, StageRuns
from tempo.tuning.tune_json import read_state, write_state
from tempo.tuning.tune_settings import NO_VALIDATION, TuneSettings
from tempo.tuning.verdict import train_size_for_verdict

AS_IT_WAS = Candidate("as it was", (), None)
DEEP_FROM_LAYERS = 10
"""Networks with at least this many layers of weights count as deep."""
SPEED_STEPS = 20
"""Steps of the run that measures the speed, for a budget in minutes."""
NamedRun = tuple[str, list[str]]
"""Name of a run and its overrides."""


@dataclass
class Procedure:
    """The stages in order; each stage adds overrides to those of earlier stages."""

    runs: StageRuns
    settings: TuneSettings
    config: RunConfig
    """Configuration of the default setting."""
    budget: Budget
    chosen: list[str] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    comparison: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        data = build_data(self.config)
        if not data.has_val:
            raise UserError(NO_VALIDATION)
        self.train_images = train_size_for_verdict(data) if self.settings.compare_seeds else data.items
        if self.train_images < data.items:
            self.runs.set_override(f"data.train_size={self.train_images}")
            self.config = check(self.runs.config([])[0])
        of_test = data.sizes["val"] / max(1, data.sizes["test"])
        self.val_share = of_test / self.config.trainer.val_every_n_epochs
        network = data.module or build_model(
            self.config.model, self.config.seed, data.shape, len(data.classes)
        )
        own = isinstance(network, pl.LightningModule)
        self.metric = self.config.objective if own else early_metric(network)
        self.layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())
        self.smoke = self.config.scale == "smoke"
        self.mark = f" [{SMOKE}]" if self.smoke else ""
        """End of each line that compares."""

    def run(self) -> Run:
        """Run all stages up to the final run.

        Raises:
            UserError: the range test supports no proposal, the budget is too small, or the folder has the
                procedure of another command.
            ProcedureInterrupted: the user interrupted a run.
        """
        self._plan()
        rates = self._range_test()
        # 1cycle ends in its best state, so the runs test their last state.
        self.chosen = ["scheduler=onecycle", "checkpoint.select=last"]
        for stage in self.order:
            self._stage(stage, rates if stage == "learning rate" else self._candidates(stage))
        return self._final_run()

    @property
    def order(self) -> tuple[str, ...]:
        """The stages between the range test and the final run, in order."""
        return ORDERS[self.settings.order]

    @property
    def plan(self) -> Plan:
        """The plan with the cuts so far."""
        assert self.budget.plan is not None
        return self.budget.plan

    @property
    def deep(self) -> bool:
        """Whether the network counts as deep."""
        return self.layers >= DEEP_FROM_LAYERS

    def _plan(self) -> None:
        """Make the plan, or read an earlier call's plan, and print it with every cut."""
        before, budget = read_state(self.runs.folder, self._command()), self.budget
        budget.seconds_before = before.seconds
        if before.plan is not None and before.price is not None:
            budget.plan, budget.price, budget.cuts = before.plan, before.price, before.cuts
        else:
            if budget.in_minutes:
                self.save()
                print(f"speed     measured by a run of {SPEED_STEPS} steps, because the budget is in minutes")
                self.runs.run("speed", [f"trainer.max_steps={SPEED_STEPS}", "checkpoint.select=last"])
                budget.measure(self.val_share)
            budget.set_plan(self._wanted())
        depth = "deep" if self.deep else "shallow"
        print(f"plan      {self.plan.words(self.order)}; {self.layers} layers of weights: {depth}")
        print(f"budget    {budget}")
        print(f"rule      {rule(self.metric)}")
        _print_cuts(budget.cuts)
        self.save()

    def _wanted(self) -> Plan:
        """Return the plan without a budget; a stage with a single value needs no run."""
        settings, epochs = self.settings, self.config.trainer.epochs
        short = max(2, round(epochs / 4)) if settings.short_epochs == "auto" else settings.short_epochs
        counts = {stage: len(self._candidates(stage)) for stage in self.order if stage != "learning rate"}
        return Plan(
            range_epochs=settings.range_steps / (self.train_images // self.config.data.total_batch_size),
            short_seeds=settings.short_seeds,
            short_epochs=min(epochs, short),
            lr_runs=2,
            **{RUNS_OF[stage]: count if count > 1 else 0 for stage, count in counts.items()},
            final_epochs=epochs,
            compare_seeds=settings.compare_seeds,
        )

    def _range_test(self) -> list[Candidate]:
        print("stage     LR range test")
        more = [
            "scheduler=range_test",
            f"trainer.max_steps={self.settings.range_steps}",
            "trainer.log_every_n_steps=1",
            "divergence.factor=4.0",
            f"seed={self.settings.choosing_seeds(self.config.seed)[0]}",
        ]
        run = self.runs.run("range_test", more)
        self.budget.measure(self.val_share)
        result = conclude(run.folder)
        if result.best is None:
            failed = result.settings[0].proposal
            raise UserError(
                f"the range test supports no bounds: {failed.why_not}; see {run.folder / 'lr_range.png'}, "
                f"and try `python src/lr_range.py` with {failed.go_on}"
            )
        proposal = result.best.proposal
        low, high = number(proposal.min_lr or 0.0), number(proposal.max_lr or 0.0)
        reasons = f"min_lr: {proposal.min_lr_reason}; max_lr: {proposal.max_lr_reason}"
        self.evidence.append(f"range test: {low} to {high} ({reasons})")
        return learning_rates(proposal)

    def _candidates(self, stage: str) -> list[Candidate]:
        settings = self.settings
        if stage == "momentum":
            return momenta(self.config, settings.momenta)
        if stage == "weight decay":
            return weight_decays(settings.weight_decays, deep=self.deep, train_images=self.train_images)
        return batch_sizes(settings.batch_sizes, self.config, self.train_images)

    def _stage(self, stage: str, candidates: Sequence[Candidate]) -> None:
        """Try the candidates that the budget allows, and add the overrides of the chosen one."""
        print(f"stage     {stage}")
        if len(candidates) == 1:
            tried = [replace(candidates[0], outcome=candidates[0].outcome or ONLY_VALUE)]
            self.runs.left_out += getattr(self.plan, RUNS_OF[stage]) * self.plan.short_seeds
        else:
            tried = self._try_all(stage, candidates)
        # Without evidence, use the range test's bounds and leave everything else as it was.
        untried = tried[-1] if stage == "learning rate" or len(tried) == 1 else AS_IT_WAS
        choice = choose(stage, self.metric, tried, untried)
        self.print_choice(choice)
        self.chosen += choice.chosen.overrides
        self.choices.append(choice)
        self.evidence += choice.lines
        self.save()

    def print_choice(self, choice: Choice) -> None:
        """Print a choice with its evidence."""
        first, *evidence = choice.short_lines
        print(f"choice    {first}{self.mark}")
        for line in evidence:
            print(f"          {line}")

    def _try_all(self, stage: str, candidates: Sequence[Candidate]) -> list[Candidate]:
        planned = candidates[: getattr(self.plan, RUNS_OF[stage])]
        todo = [len(self._todo(self._short_runs(stage, candidate))) for candidate in planned]
        if any(todo):
            finished = self.order[: self.order.index(stage)]
            done = len(planned) * self.plan.short_seeds - sum(todo)
            _print_cuts(self.budget.cut_rest(finished, done * self.plan.short_epochs, done))
        tried: list[Candidate] = []
        for candidate in candidates:
            if len(tried) < getattr(self.plan, RUNS_OF[stage]) and self._fits(stage, candidate, len(tried)):
                tried.append(self._try(stage, candidate))
            else:
                tried.append(replace(candidate, outcome="not run: the budget"))
        return tried

    def _short_runs(self, stage: str, candidate: Candidate) -> list[NamedRun]:
        """Return a candidate's runs, one per seed."""
        name = f"{stage} {candidate.label}".replace(" ", "_")
        overrides = [*self.chosen, *candidate.overrides, f"trainer.epochs={self.plan.short_epochs}"]
        seeds = self.settings.choosing_seeds(self.config.seed)[: self.plan.short_seeds]
        return [(f"{name}_seed{seed}", [*overrides, f"seed={seed}"]) for seed in seeds]

    def _todo(self, runs: Sequence[NamedRun]) -> list[NamedRun]:
        return [run for run in runs if self.runs.need(*run) != "nothing"]

    def _fits(self, stage: str, candidate: Candidate, tried: int) -> bool:
        """Whether a candidate leaves enough budget for the final run; if not, the stage ends here."""
        todo = len(self._todo(self._short_runs(stage, candidate)))
        epochs = todo * self.plan.short_epochs + self.plan.final_epochs
        if not todo or self.budget.fits(epochs, todo + 1):
            return True
        _print_cuts([self.budget.limit(RUNS_OF[stage], tried)])
        return False

    def _try(self, stage: str, candidate: Candidate) -> Candidate:
        """Return the candidate with its scores, or as failed if it cannot run (e.g. too large a batch)."""
        try:
            runs = [self.runs.run(*run) for run in self._short_runs(stage, candidate)]
        except ProcedureInterrupted:
            raise
        except Exception as error:  # noqa: BLE001 - the other candidates may run
            line = (str(error).splitlines() or [""])[0]
            reason = line if isinstance(error, UserError) else f"{type(error).__name__}: {line}"
        else:
            self.budget.measure(self.val_share)
            diverged = any(run.record.status == "diverged" for run in runs)
            scores = tuple(score(run, self.metric) for run in runs)
            return replace(candidate, scores=scores, outcome="diverged" if diverged else "no validation")
        gc.collect()  # a trainer refers to itself, so it holds device memory until it is collected
        return replace(candidate, outcome=f"failed: {reason}")

    def _full_runs(self, seed: int) -> tuple[NamedRun, NamedRun]:
        """Return a seed's two runs: with the tuned and with the default setting."""
        length = [f"trainer.epochs={self.plan.final_epochs}", f"seed={seed}"]
        tuned = (f"final_tuned_seed{seed}", [*self.chosen, *length])
        return tuned, (f"final_default_seed{seed}", length)

    def _final_run(self) -> Run:
        tuned, _ = self._full_runs(self.config.seed)
        if self.runs.need(*tuned) == "run":
            _print_cuts(self.budget.cut_rest(RUNS_OF, 0, 0))
            tuned, _ = self._full_runs(self.config.seed)
        self.save()
        print("stage     final run")
        return self.runs.run(*tuned)

    def compare(self) -> tuple[list[Run], list[Run]]:
        """Run the tuned and the default setting with the same seeds and epochs, and return their runs."""
        tuned: list[Run] = []
        default: list[Run] = []
        first = self.config.seed
        for seed in range(first, first + self.plan.compare_seeds):
            self.budget.measure(self.val_share)
            todo = len(self._todo(self._full_runs(seed)))
            if todo and not self.budget.fits(todo * self.plan.final_epochs, todo):
                _print_cuts([self.budget.limit("compare_seeds", len(tuned))])
                break
            if seed == first:
                print("stage     comparison")
            for runs, (name, overrides) in zip((tuned, default), self._full_runs(seed), strict=True):
                runs.append(self.runs.run(name, overrides))
        return tuned, default

    @property
    def cost(self) -> str:
        """Epochs, runs and time so far, of all stages, failed runs and the comparison."""
        runs = f"{self.runs.epochs:.4g} epochs in {len(self.runs.finished)} runs"
        return f"{runs}, {duration(self.budget.seconds)}"

    def _command(self) -> dict[str, Any]:
        """Return the user's overrides and settings, as they are read back from JSON."""
        command = {"overrides": sorted(self.runs.overrides), "settings": asdict(self.settings)}
        read: dict[str, Any] = json.loads(json.dumps(command))
        return read

    def save(self) -> None:
        """Replace the procedure's tune.json."""
        budget = self.budget
        self.runs.planned = 0 if budget.plan is None else budget.plan.runs
        state = {
            **({"label": SMOKE} if self.smoke else {}),
            **self._command(),
            "plan": None if budget.plan is None else asdict(budget.plan),
            "cuts": budget.cuts,
            "price": asdict(budget.price),
            "rule_metric": self.metric,
            "choices": [choice.as_json() for choice in self.choices],
            "chosen": self.chosen,
            "comparison": self.comparison,
            "seconds": budget.seconds,
            "epochs": self.runs.epochs,
            "runs": len(self.runs.finished),
        }
        write_state(self.runs.folder, state)


def _print_cuts(cuts: Sequence[str]) -> None:
    for cut in cuts:
        print(f"cut       {cut}")
