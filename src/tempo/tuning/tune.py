"""What `src/tune.py` does: the procedure, then tuned.yaml, the comparison and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tempo.command_line.script import STARTED
from tempo.config.check import check
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.folder_lock import FolderLock
from tempo.record.run_folder import remove_unused
from tempo.report.grouping import Setting
from tempo.report.load_runs import Array, Run
from tempo.report.number_format import SMOKE, duration, mean_and_sd, metric_name
from tempo.report.statistics import compare, statistics
from tempo.report.write_report import build_report
from tempo.tuning.budget import Budget
from tempo.tuning.choice import Candidate, Choice, choose, score
from tempo.tuning.procedure import Procedure
from tempo.tuning.settings import kept_overrides, settings_of
from tempo.tuning.stage_run import StageRunner, StudyInterrupted

SECTIONS = ("checkpoint", "early_stopping", "ema", "divergence", "objective")
GROUPS = ("data", "model", "optimizer", "scheduler", "trainer")
EXPERIMENT = "tuned"


def tune(config: DictConfig) -> None:
    """Run the procedure in the folder that Hydra made; print each choice with its evidence.

    Raises:
        UserError: see `Procedure.run`; the same procedure is at work. A folder in which nothing was run is
            taken back.
        SystemExit: 130 where the user stopped it: the same command goes on at its stage.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with FolderLock(folder, what="the same procedure", remedy="choose another hydra.run.dir=<folder>"):
            _tune(config, folder)
    except UserError:
        remove_unused(folder)
        raise


def _tune(config: DictConfig, folder: Path) -> None:
    runner = StageRunner(folder, kept_overrides([str(each) for each in HydraConfig.get().overrides.task]))
    values, _ = runner.config([])
    if values["paper"] is not None:  # what is tuned aims at no published number
        runner = StageRunner(folder, [*runner.overrides, "paper=null"])
        values, _ = runner.config([])
    settings = settings_of(config)
    procedure = Procedure(runner, settings, check(values), Budget(settings, runner, STARTED))
    if procedure.smoke:
        print(f"*** {SMOKE} ***")
    where = str(folder)
    try:
        final = procedure.run()
        where = "the comparison"
        print(f"tuned     {write_tuned(folder, final, procedure.evidence)}")
        ours, default = procedure.compare()
        judged = verdict(ours, default, procedure.metric)
        if judged is not None:
            print("\n".join(f"choice    {line}" for line in judged.lines))
            if judged.chosen.label == "default":
                write_tuned(folder, default[0], [*procedure.evidence, *judged.lines])
        procedure.comparison = comparison(ours, default, judged)
        lines = comparison_lines(ours, default)
        page = build_report([folder], folder / "report")
    except (StudyInterrupted, KeyboardInterrupt) as stopped:
        print(f"stopped in {str(stopped) or where}; the same command goes on from there")
        raise SystemExit(INTERRUPTED_CODE) from None
    finally:
        if procedure.budget.plan is not None:
            procedure.save()
    if procedure.smoke:
        print(f"*** {SMOKE} ***")
    for line in lines:
        print(f"result    {line}")
    spent = f"{runner.epochs:.4g} epochs in {len(runner.runs)} runs, {duration(procedure.budget.seconds)}"
    print(f"cost      {spent}{procedure.budget.of_words}")
    print(f"report    {page}")
    print(f"use it    python src/train.py --config-dir {folder} experiment={EXPERIMENT}")


def write_tuned(folder: Path, run: Run, evidence: Sequence[str]) -> Path:
    """Write `experiment/tuned.yaml`: the final run's whole setting, complete in itself.

    With `--config-dir <folder>` Hydra finds it as `experiment=tuned`; it can also be copied into
    conf/experiment.
    """
    record = run.record
    nodes: dict[str, Any] = {each: record.config[each] for each in (*GROUPS, *SECTIONS)}
    chosen = [{f"override /{each}": record.choices[each]} for each in GROUPS if each in record.choices]
    content = {"defaults": [*chosen, "_self_"], **nodes}
    head = ["# @package _global_", "# Found by src/tune.py; the evidence, stage by stage:"]
    head += [f"# {line}" for line in ([f"*** {SMOKE} ***"] if run.smoke else []) + list(evidence)]
    path = folder / "experiment" / f"{EXPERIMENT}.yaml"
    path.parent.mkdir(exist_ok=True)
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    write_atomically(path, "\n".join(head) + "\n" + text)
    return path


def verdict(ours: Sequence[Run], default: Sequence[Run], metric: str) -> Choice | None:
    """Tuned or default, by the rule of the stages on the validation of the full runs; None for a single seed.

    Each is judged by the state that it tests. A procedure that has gained nothing must not make things worse:
    then tuned.yaml is the default setting.
    """
    if len(ours) < 2:
        return None
    arms = (("tuned", ours), ("default", default))
    scored = [
        Candidate(label, (), label, tuple(score(each, metric) for each in runs), "a seed diverged")
        for label, runs in arms
    ]
    states = [f"{label}: {_state_words(runs)}" for label, runs in arms]
    return choose(
        "tuned or default", metric, scored, where=f"at the state that is tested ({', '.join(states)})"
    )


def _state_words(runs: Sequence[Run]) -> str:
    by = next((each.record.selected["by"] for each in runs if each.record.selected), "last")
    return "the last" if by == "last" else f"the best by {metric_name(by)}"


def comparison(ours: Sequence[Run], default: Sequence[Run], judged: Choice | None) -> dict[str, Any] | None:
    """What `tune.json` keeps of tuned against default; plain values, None without a comparison."""
    if not ours:
        return None
    found: dict[str, Any] = {"verdict": None if judged is None else judged.as_json()}
    for label, runs in (("tuned", ours), ("default", default)):
        test = statistics(Setting(label, (), tuple(runs)), "test/accuracy")
        found[label] = {"test/accuracy": {"mean": test.mean, "sd": test.sd, "n": test.n}}
    target, own = best_mean_accuracy(default)
    if target is not None:
        found["epochs to equal validation accuracy"] = {
            "accuracy": target,
            "tuned": epochs_to(ours, target),
            "default": own,
        }
    return found


def comparison_lines(ours: Sequence[Run], default: Sequence[Run]) -> list[str]:
    """Tuned against default: means, difference with its interval, epochs to equal accuracy."""
    if not ours:
        return []
    a, b = Setting("tuned", (), tuple(ours)), Setting("default", (), tuple(default))
    lines = []
    for setting in (a, b):
        found = statistics(setting, "test/accuracy")
        said = mean_and_sd(found.mean, found.sd, "test/accuracy")
        lines.append(
            f"{setting.label}: test accuracy {said} %, {found.n} of {len(setting.runs)} seeds completed"
        )
    if a.completed and b.completed:
        lines.append(compare(a, b, "test/accuracy").words)
        lines.append(_epochs_words(a.completed, b.completed))
    return lines


def epochs_to(runs: Sequence[Run], accuracy: float) -> float | None:
    """The first epoch at which the mean validation accuracy over runs reaches a value; None = never."""
    epochs, means = _mean_accuracy(runs)
    reached = np.flatnonzero(means >= accuracy)
    return float(epochs[reached[0]]) if len(reached) else None


def best_mean_accuracy(runs: Sequence[Run]) -> tuple[float | None, float | None]:
    """The highest that the mean validation accuracy over runs comes to, and the epoch; None without any."""
    epochs, means = _mean_accuracy(runs)
    return (float(means.max()), float(epochs[means.argmax()])) if len(means) else (None, None)


def _mean_accuracy(runs: Sequence[Run]) -> tuple[Array, Array]:
    """Over the completed runs, at the epochs `[n]` of the first."""
    series = [run.series("val/accuracy") for run in runs if run.record.status == "completed"]
    if not series:
        return np.empty(0), np.empty(0)
    epochs = series[0][0]
    return epochs, np.mean([np.interp(epochs, xs, ys) for xs, ys in series], axis=0)


def _epochs_words(ours: Sequence[Run], default: Sequence[Run]) -> str:
    target, own = best_mean_accuracy(default)
    assert target is not None
    tuned = epochs_to(ours, target)
    said = "does not reach it" if tuned is None else f"reaches it after {tuned:g}"
    return (
        f"the default's mean validation accuracy is highest after {own:g} epochs, {100 * target:.2f} %: "
        f"tuned {said}"
    )
