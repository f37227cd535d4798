"""What `src/tune.py` does: the procedure, then tuned.yaml, the comparison and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tempo.errors import INTERRUPTED_CODE
from tempo.folder_lock import FolderLock
from tempo.record import write_atomically
from tempo.report.build import build_report
from tempo.report.grouping import Setting
from tempo.report.load import Run
from tempo.report.summarise import compare, statistics
from tempo.report.wording import duration, mean_and_sd
from tempo.study.choice import Candidate, Choice, choose, score
from tempo.study.procedure import Procedure
from tempo.study.stage_run import StageRunner, StudyInterrupted
from tempo.tune_settings import kept_overrides, settings_of

GROUPS = ("data", "model", "optimizer", "scheduler", "trainer")
EXPERIMENT = "tuned"


def tune(config: DictConfig) -> None:
    """Run the procedure in the folder that Hydra made; print each choice with its evidence.

    Raises:
        UserError: see `Procedure.run`; a scheduler override; the same procedure is at work.
        SystemExit: 130 where the user stopped it: the same command goes on at its stage.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    with FolderLock(folder, what="the same procedure", remedy="choose another hydra.run.dir=<folder>"):
        _tune(config, folder)


def _tune(config: DictConfig, folder: Path) -> None:
    hydra = HydraConfig.get()
    overrides = [str(each) for each in hydra.overrides.task]
    settings = settings_of(config)
    kept = kept_overrides(overrides)
    runner = StageRunner(folder, kept)
    values, _ = runner.config([])
    procedure = Procedure(runner, settings, values)
    try:
        final = procedure.run()
        experiment = write_tuned(folder, final, procedure.evidence)
        print(f"tuned     {experiment}")
        ours, default = procedure.compare(final)
        if (judged := verdict(ours, default, procedure.metric)) is not None:
            print("\n".join(f"choice    {line}" for line in judged.lines))
            if judged.chosen.label == "default":
                write_tuned(folder, default[0], [*procedure.evidence, *judged.lines])
    except StudyInterrupted as stopped:
        print(f"stopped in {stopped}; the same command goes on from there")
        raise SystemExit(INTERRUPTED_CODE) from None
    for line in comparison_lines(ours, default):
        print(f"result    {line}")
    spent = f"{runner.epochs:.4g} epochs in {len(runner.runs)} runs, {duration(runner.seconds)}"
    print(f"cost      {spent}")
    print(f"report    {build_report([folder], folder / 'report')}")
    print(f"use it    python src/train.py --config-dir {folder} experiment={EXPERIMENT}")


def write_tuned(folder: Path, run: Run, evidence: Sequence[str]) -> Path:
    """Write `experiment/tuned.yaml`: the final run's whole setting, complete in itself.

    With `--config-dir <folder>` Hydra finds it as `experiment=tuned`; it can also be copied into
    conf/experiment.
    """
    record = run.record
    nodes: dict[str, Any] = {each: record.config[each] for each in (*GROUPS, "checkpoint")}
    chosen = [{f"override /{each}": record.choices[each]} for each in GROUPS if each in record.choices]
    content = {"defaults": [*chosen, "_self_"], **nodes}
    head = ["# @package _global_", "# Found by src/tune.py; the evidence, stage by stage:"]
    head += [f"# {line}" for line in evidence]
    path = folder / "experiment" / f"{EXPERIMENT}.yaml"
    path.parent.mkdir(exist_ok=True)
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    write_atomically(path, "\n".join(head) + "\n" + text)
    return path


def verdict(ours: Sequence[Run], default: Sequence[Run], metric: str) -> Choice | None:
    """Tuned or default, by the rule of the stages on the validation of the full runs; None for a single seed.

    A procedure that has gained nothing must not make things worse: then tuned.yaml is the default setting.
    """
    if len(ours) < 2:
        return None
    scored = [
        Candidate(label, (), label, tuple(score(each, metric) for each in runs), "a seed diverged")
        for label, runs in (("tuned", ours), ("default", default))
    ]
    return choose("tuned or default", metric, scored)


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
    series = [run.series("val/accuracy") for run in runs]
    epochs = series[0][0]
    means = np.mean([np.interp(epochs, xs, ys) for xs, ys in series], axis=0)
    reached = np.flatnonzero(means >= accuracy)
    return float(epochs[reached[0]]) if len(reached) else None


def _epochs_words(ours: Sequence[Run], default: Sequence[Run]) -> str:
    target = float(np.mean([run.series("val/accuracy")[1][-1] for run in default]))
    tuned, own = epochs_to(ours, target), epochs_to(default, target)
    said = "does not reach it" if tuned is None else f"reaches it after {tuned:g} epochs"
    first = "" if own is None else f"; the default itself first after {own:g}"
    return f"the default's final validation accuracy is {100 * target:.2f} %: tuned {said}{first}"
