"""Main part of `src/tune.py`: the stages, then tuned.yaml, the comparison and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tempo.command_line.script import STARTED
from tempo.config.check import check
from tempo.config.schema import GROUPS, SECTIONS, SMOKE
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.paths import as_typed
from tempo.record.atomic_write import write_atomically
from tempo.record.folder_lock import FolderLock
from tempo.record.run_folder import remove_unused
from tempo.report.load_runs import Run
from tempo.report.write_report import build_report
from tempo.tuning.budget import Budget
from tempo.tuning.stage_runs import ProcedureInterrupted, StageRuns
from tempo.tuning.stages import Procedure
from tempo.tuning.tune_settings import kept_overrides, settings_of
from tempo.tuning.verdict import comparison_json, comparison_lines, kept_words, verdict

EXPERIMENT = "tuned"


def tune(config: DictConfig) -> None:
    """Run the procedure in the folder that Hydra created; print each choice with its evidence.

    Raises:
        UserError: an error of `Procedure.run`, or the same procedure is already running. A folder without
            any run is removed.
        SystemExit: code 130 if the user interrupted it; rerun the command to resume.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with FolderLock(folder, what="the same procedure", remedy="choose another hydra.run.dir=<folder>"):
            _tune(config, folder)
    except UserError:
        remove_unused(folder)
        raise


def _tune(config: DictConfig, folder: Path) -> None:
    procedure = _procedure(config, folder)
    if procedure.smoke:
        print(f"*** {SMOKE} ***")
    where = str(folder)
    try:
        final = procedure.run()
        where = "the comparison"
        print(f"tuned     {write_tuned(folder, final, procedure.evidence)}")
        tuned, default = procedure.compare()
        judged = verdict(tuned, default, procedure.metric)
        if judged is not None:
            procedure.print_choice(judged)
            kept = default[0] if judged.chosen.label == "default" else final
            write_tuned(folder, kept, [*procedure.evidence, *judged.lines, f"whole cost: {procedure.cost}"])
        procedure.comparison = comparison_json(tuned, default, judged)
        lines = comparison_lines(tuned, default, procedure.cost)
        page = build_report([folder], folder / "report")
    except (ProcedureInterrupted, KeyboardInterrupt) as interrupted:
        print(f"stopped in {str(interrupted) or where}; rerun the same command to continue")
        raise SystemExit(INTERRUPTED_CODE) from None
    finally:
        if procedure.budget.plan is not None:
            procedure.save()
    budget = procedure.budget
    of = "" if budget.total is None else f", of {budget.price.amount(budget.total)}"
    if procedure.smoke:
        print(f"*** {SMOKE} ***")
    for line in lines:
        print(f"result    {line}{procedure.mark}")
    if judged is not None:
        print(f"kept      {kept_words(judged, tuned, default)}{procedure.mark}")
    print(f"cost      {procedure.cost}{of}")
    print(f"report    {page}")
    print(as_typed(f"use it    python src/train.py --config-dir {folder} experiment={EXPERIMENT}"))


def _procedure(config: DictConfig, folder: Path) -> Procedure:
    runs = StageRuns(folder, kept_overrides([str(override) for override in HydraConfig.get().overrides.task]))
    if runs.config([])[0]["paper"] is not None:  # a tuned setting has no published number to reach
        runs = StageRuns(folder, [*runs.overrides, "paper=null"])
    settings = settings_of(config)
    return Procedure(runs, settings, check(runs.config([])[0]), Budget(settings, runs, STARTED))


def write_tuned(folder: Path, run: Run, evidence: Sequence[str]) -> Path:
    """Write `experiment/tuned.yaml` with the final run's whole setting, and return its path.

    With `--config-dir <folder>` Hydra finds it as `experiment=tuned`; it can also be copied into
    conf/experiment.
    """
    record = run.record
    options = {group: record.choices[group] for group in (*GROUPS, "trainer") if group in record.choices}
    content: dict[str, Any] = {
        "defaults": [*({f"override /{group}": option} for group, option in options.items()), "_self_"],
        **{key: record.config[key] for key in (*GROUPS, *SECTIONS, "objective") if key in record.config},
    }
    head = ["# @package _global_", "# Found by src/tune.py; the evidence, stage by stage:"]
    head += [f"# {line}" for line in ([f"*** {SMOKE} ***"] if run.smoke else []) + list(evidence)]
    path = folder / "experiment" / f"{EXPERIMENT}.yaml"
    path.parent.mkdir(exist_ok=True)
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    write_atomically(path, "\n".join(head) + "\n" + text)
    return path
