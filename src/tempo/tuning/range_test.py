"""Main part of `src/lr_range.py`: train while the learning rate rises, then report the proposed bounds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from tempo.config.resolve_interpolations import plain
from tempo.config.schema import SMOKE
from tempo.report.number_format import human
from tempo.run.train import run_from_hydra
from tempo.tuning.range_figure import draw
from tempo.tuning.range_proposal import RULE_MAX, RULE_MIN, two_digits
from tempo.tuning.range_result import RangeTestResult, SettingResult, analyse, write_json


def run_range_test(config: DictConfig) -> float | None:
    """Run the training that Hydra composed; outside a sweep, report the bounds that its curve supports."""
    preview = plain(config)["preview"]
    objective = run_from_hydra(config)
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.RUN and not preview:
        conclude(Path(hydra.runtime.output_dir))
    return objective


def conclude(folder: Path) -> RangeTestResult:
    """Analyse the runs in a folder, write JSON and figure, and print the proposals and how to use them.

    Raises:
        UserError: the folder has no run with a result.
    """
    result = analyse(folder)
    path = write_json(result)
    print(text_of(result))
    print(f"files     {path}, {draw(result)}")
    if result.best is not None:
        print(f"use it    {overrides_to_use(folder)}")
    return result


def text_of(result: RangeTestResult) -> str:
    """Return the lines for the screen: points and proposal of each setting, and the rules."""
    lines = [f"*** {SMOKE} ***"] if result.smoke else []
    for setting in result.settings:
        seeds = f"seed{'s' * (len(setting.seeds) > 1)} {', '.join(map(str, setting.seeds))}"
        lines += [f"{setting.label} ({seeds})", *(f"  {line}" for line in _lines(setting))]
    if result.best is not None:
        if len(result.settings) > 1:
            lines.append(f"lowest smoothed loss of {len(result.settings)} settings: {result.best.label}")
        lines += [f"rules     max_lr: {RULE_MAX}", f"          min_lr: {RULE_MIN}"]
    return "\n".join(lines)


def _lines(setting: SettingResult) -> list[str]:
    proposal, lines = setting.proposal, []
    if (points := proposal.points) is not None:
        turn = _lr(points.turn, "not within the range")
        lines += [
            f"steepest  {_lr(points.steepest)} ({points.steepest_slope:.2g} per decade)",
            f"minimum   {_lr(points.minimum)} "
            f"(loss {points.minimum_loss:.3g}; at the start {points.start_loss:.3g})",
            f"turns up  {turn}",
            f"edge      {_lr(points.edge, 'not reached')}"
            + (f" ({points.edge_reason})" if points.edge is not None else ""),
        ]
    if not proposal.supported:
        return [*lines, f"no proposal: {proposal.why_not}", f"try again with: {proposal.go_on}"]
    return [
        *lines,
        f"max_lr    {_lr(proposal.max_lr)}: {proposal.max_lr_reason}",
        f"min_lr    {_lr(proposal.min_lr)}: {proposal.min_lr_reason}",
        *(f"note      {note}" for note in setting.notes),
    ]


def overrides_to_use(path: Path) -> str:
    """Return the overrides that make a 1cycle run use a range test."""
    override = f"scheduler.range_test={path}"
    if re.search(r"[^\w./+-]", str(path)):  # Hydra would interpret the = and , in a sweep's folder
        override = shlex.quote(f'scheduler.range_test="{path}"')
    return f"scheduler=onecycle scheduler.max_lr=auto {override}"


def _lr(value: float | None, otherwise: str = "none") -> str:
    return human(two_digits(value)) if value is not None else otherwise
