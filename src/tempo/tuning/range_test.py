"""The runs of an LR range test in a folder: one proposal a setting, as text and as JSON."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tempo.config.range_bounds import FILE_NAME, KIND, SCHEMA_VERSION, essentials
from tempo.config.schedule_choice import RANGE_TEST
from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.report.colours_and_axes import thin
from tempo.report.grouping import group
from tempo.report.load_runs import Run, load
from tempo.report.number_format import SMOKE, human
from tempo.tuning.curve import Curve, Smoothed, mean_of, read_curve, smooth
from tempo.tuning.proposal import (
    FEWEST_POINTS,
    RULE_MAX,
    RULE_MIN,
    Proposal,
    propose,
    too_short,
    two_digits,
)

SEEDS_DISAGREE = 3.0
"""Seeds whose proposals lie further apart than this factor are pointed out."""


@dataclass(frozen=True, eq=False)
class SettingResult:
    """The runs that differ in nothing but the seed; `mean` is None where their curves are too short."""

    label: str
    values: Mapping[str, Any]
    runs: tuple[Run, ...]
    raw: tuple[Curve, ...]
    smoothed: tuple[Smoothed, ...]
    mean: Smoothed | None
    proposal: Proposal
    proposals: tuple[Proposal, ...]

    @property
    def seeds(self) -> list[int]:
        """In order."""
        return sorted({run.record.seed for run in self.runs})


@dataclass(frozen=True, eq=False)
class RangeTestResult:
    """All settings of a range test, and the folder that holds their runs."""

    folder: Path
    settings: tuple[SettingResult, ...]

    @property
    def smoke(self) -> bool:
        """Whether any run is a smoke run."""
        return any(run.smoke for setting in self.settings for run in setting.runs)

    @property
    def best(self) -> SettingResult | None:
        """The setting with a proposal whose smoothed loss comes lowest."""
        supported = [each for each in self.settings if each.proposal.supported and each.mean is not None]
        return min(supported, key=_lowest) if supported else None


def analyse(folder: Path) -> RangeTestResult:
    """Read every range test below a folder and propose bounds.

    Raises:
        UserError: there is no run, or none with the range_test schedule that came to a result.
    """
    found = [run for run in load([folder]).runs if run.record.config["scheduler"]["_target_"] == RANGE_TEST]
    runs = [run for run in found if run.record.finished]
    if not runs:
        reason = "none of its runs came to a result" if found else "its runs have no range_test schedule"
        raise UserError(f"{folder} holds no LR range test: {reason}; run src/lr_range.py")
    keys, settings = group(runs)
    results = [
        _analyse_setting(each.label, dict(zip(keys, each.values, strict=True)), each.runs)
        for each in settings
    ]
    return RangeTestResult(folder, tuple(results))


def _analyse_setting(label: str, values: Mapping[str, Any], runs: Sequence[Run]) -> SettingResult:
    curves = [read_curve(run.folder / "metrics.csv", run.record.status == "diverged") for run in runs]
    steps = max(run.record.steps for run in runs)
    lowest_lr = float(runs[0].record.config["scheduler"]["min_lr"])
    lowest_lr = lowest_lr or float(runs[0].record.config["scheduler"]["max_lr"]) / 1e5
    shortest = min(curves, key=lambda each: len(each.lr))
    if len(shortest.lr) < FEWEST_POINTS:
        short = too_short(len(shortest.lr), _decades_to_divergence(shortest), steps, lowest_lr)
        return SettingResult(label, values, tuple(runs), tuple(curves), (), None, short, ())
    smoothed = [smooth(each) for each in curves]
    mean = mean_of(smoothed)
    proposals = tuple(propose(each, steps, lowest_lr) for each in smoothed)
    proposal = propose(mean, steps, lowest_lr)
    return SettingResult(
        label, values, tuple(runs), tuple(curves), tuple(smoothed), mean, proposal, proposals
    )


def _decades_to_divergence(curve: Curve) -> float | None:
    if not curve.diverged:
        return None
    return math.log10(float(curve.lr[-1] / curve.lr[0])) if len(curve.lr) > 1 else 0.0


def text_of(result: RangeTestResult) -> str:
    """What the screen shows: each setting's points and its proposal with the reasons, then the command."""
    lines = [f"*** {SMOKE} ***"] if result.smoke else []
    for each in result.settings:
        seeds = f"seed{'s' * (len(each.seeds) > 1)} {', '.join(map(str, each.seeds))}"
        lines += [f"{each.label} ({seeds})", *(f"  {line}" for line in _lines(each))]
    best = result.best
    if best is None:
        return "\n".join(lines)
    if len(result.settings) > 1:
        lines.append(f"lowest smoothed loss of {len(result.settings)} settings: {best.label}")
    lines += [f"rules     max_lr: {RULE_MAX}", f"          min_lr: {RULE_MIN}"]
    return "\n".join(lines)


def _lines(setting: SettingResult) -> list[str]:
    proposal, lines = setting.proposal, []
    if (points := proposal.points) is not None:
        edge = "not reached" if points.edge is None else f"{_lr(points.edge)} ({points.edge_reason})"
        lines += [
            f"steepest  {_lr(points.steepest)} ({points.steepest_slope:.2g} a decade)",
            f"minimum   {_lr(points.minimum)} "
            f"(loss {points.minimum_loss:.3g}; at the start {points.start_loss:.3g})",
            f"turns up  {_lr(points.turn) if points.turn is not None else 'not within the range'}",
            f"edge      {edge}",
        ]
    if not proposal.supported:
        return [*lines, f"no proposal: {proposal.why_not}", f"go on with: {proposal.go_on}"]
    lines += [
        f"max_lr    {_lr(proposal.max_lr)}: {proposal.max_lr_reason}",
        f"min_lr    {_lr(proposal.min_lr)}: {proposal.min_lr_reason}",
    ]
    return lines + [f"note      {each}" for each in (*proposal.notes, *seed_notes(setting))]


def seed_notes(setting: SettingResult) -> list[str]:
    """How far the seeds' own proposals lie apart."""
    if len(setting.proposals) < 2:
        return []
    own = [each.max_lr for each in setting.proposals if each.max_lr is not None]
    without = len(setting.proposals) - len(own)
    notes = [f"{without} of {len(setting.proposals)} seeds alone support no proposal"] if without else []
    if own:
        spread = f"max_lr of the single seeds: {_lr(min(own))} to {_lr(max(own))}"
        apart = max(own) > SEEDS_DISAGREE * min(own)
        notes.append(
            spread + ("; they disagree: prefer the smaller one, or take more steps" if apart else "")
        )
    return notes


def use_it(path: Path) -> str:
    """The overrides that use a range test in a 1cycle run."""
    named = f"scheduler.range_test={path}"
    if re.search(r"[^\w./+-]", str(path)):  # the = and , of a sweep's folder mean something to Hydra
        named = shlex.quote(f'scheduler.range_test="{path}"')
    return f"scheduler=onecycle scheduler.max_lr=auto {named}"


def write_json(result: RangeTestResult) -> Path:
    """Replace `lr_range.json` in the folder, in one step."""
    best = result.best
    first = result.settings[0].runs[0].record
    content = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "label": SMOKE if result.smoke else None,
        "model": first.choices.get("model", ""),
        "data": first.choices.get("data", ""),
        "data_sha256": first.data.get("sha256", ""),
        "rules": {"max_lr": RULE_MAX, "min_lr": RULE_MIN},
        "settings": [_setting_json(each, result.folder) for each in result.settings],
        "proposal": _bounds(best) if best is not None else None,
    }
    path = result.folder / FILE_NAME
    write_atomically(path, json.dumps(content, indent=2) + "\n")
    return path


def _setting_json(setting: SettingResult, folder: Path) -> dict[str, Any]:
    config = setting.runs[0].record.config
    curve = None
    if setting.mean is not None:
        lr, loss = thin(setting.mean.lr, setting.mean.loss)
        curve = {"lr": lr.tolist(), "smoothed_loss": loss.tolist(), "diverged": setting.mean.diverged}
    return {
        "label": setting.label,
        "values": {key: value if _is_plain(value) else human(value) for key, value in setting.values.items()},
        "essentials": essentials(config),
        "seeds": setting.seeds,
        "runs": [str(run.folder.relative_to(folder.resolve())) for run in setting.runs],
        "steps": max(run.record.steps for run in setting.runs),
        "points": None if setting.proposal.points is None else asdict(setting.proposal.points),
        "curve": curve,
        "proposal": _bounds(setting) if setting.proposal.supported else None,
        "why_not": setting.proposal.why_not,
        "go_on": setting.proposal.go_on,
        "notes": [*setting.proposal.notes, *seed_notes(setting)],
    }


def _bounds(setting: SettingResult) -> dict[str, Any]:
    proposal = setting.proposal
    return {
        "setting": setting.label,
        "min_lr": proposal.min_lr,
        "max_lr": proposal.max_lr,
        "min_lr_reason": proposal.min_lr_reason,
        "max_lr_reason": proposal.max_lr_reason,
    }


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _lowest(setting: SettingResult) -> float:
    assert setting.mean is not None
    return float(setting.mean.loss.min())


def _lr(value: float | None) -> str:
    return human(two_digits(value)) if value is not None else "none"
