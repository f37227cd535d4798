"""Result of an LR range test: a proposal for each setting, and `lr_range.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tempo.config.lr_range_bounds import FILE_NAME, KIND, SCHEMA_VERSION, essentials
from tempo.config.schedule_choice import RANGE_TEST
from tempo.config.schema import SMOKE
from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.report.colours_and_axes import thin
from tempo.report.grouping import group
from tempo.report.load_runs import Run, load
from tempo.report.number_format import human
from tempo.tuning.range_curve import Curve, SmoothCurve, mean_curve, read_curve, smooth
from tempo.tuning.range_proposal import (
    FEWEST_POINTS,
    RULE_MAX,
    RULE_MIN,
    Proposal,
    propose,
    too_short,
    two_digits,
)

SEEDS_DISAGREE = 3.0
"""Factor between the proposals of two seeds above which the result has a warning."""


@dataclass(frozen=True, eq=False)
class SettingResult:
    """Runs that differ only in their seed, and their proposals; `mean` is None if a curve is too short."""

    label: str
    values: Mapping[str, Any]
    runs: tuple[Run, ...]
    curves: tuple[Curve, ...]
    smoothed: tuple[SmoothCurve, ...]
    mean: SmoothCurve | None
    proposal: Proposal
    """Proposal from the mean curve."""
    seed_proposals: tuple[Proposal, ...]
    """Proposals from each seed's own curve."""

    @property
    def seeds(self) -> list[int]:
        """Seeds in order."""
        return sorted({run.record.seed for run in self.runs})

    @property
    def lowest_loss(self) -> float:
        """Lowest loss of the mean curve; infinite without one."""
        return float(self.mean.loss.min()) if self.mean is not None else math.inf

    @property
    def notes(self) -> list[str]:
        """Remarks on the proposal and on the spread of the seeds' own proposals."""
        own = [proposal.max_lr for proposal in self.seed_proposals if proposal.max_lr is not None]
        count, notes = len(self.seed_proposals), list(self.proposal.notes)
        if count < 2:
            return notes
        if len(own) < count:
            notes.append(f"{count - len(own)} of {count} seeds alone support no proposal")
        if own:
            low, high = (human(two_digits(lr)) for lr in (min(own), max(own)))
            apart = max(own) > SEEDS_DISAGREE * min(own)
            advice = "; they disagree: prefer the smaller one, or take more steps" if apart else ""
            notes.append(f"max_lr of the single seeds: {low} to {high}{advice}")
        return notes


@dataclass(frozen=True, eq=False)
class RangeTestResult:
    """All settings of a range test, and the folder of its runs."""

    folder: Path
    settings: tuple[SettingResult, ...]

    @property
    def smoke(self) -> bool:
        """Whether any run is a smoke run."""
        return any(run.smoke for setting in self.settings for run in setting.runs)

    @property
    def best(self) -> SettingResult | None:
        """The setting with the lowest smoothed loss among those with a proposal."""
        supported = [setting for setting in self.settings if setting.proposal.supported]
        return min(supported, key=lambda setting: setting.lowest_loss, default=None)


def analyse(folder: Path) -> RangeTestResult:
    """Read every range test below a folder and propose bounds for each setting.

    Raises:
        UserError: there is no run, or no run with the range_test schedule has a result.
    """
    found = [run for run in load([folder]).runs if run.record.config["scheduler"]["_target_"] == RANGE_TEST]
    runs = [run for run in found if run.record.finished]
    if not runs:
        reason = "none of its range tests has a result" if found else "its runs have no range_test schedule"
        raise UserError(f"{folder} contains no LR range test: {reason}; run src/lr_range.py")
    keys, settings = group(runs)
    results = [
        _analyse(setting.label, dict(zip(keys, setting.values, strict=True)), setting.runs)
        for setting in settings
    ]
    return RangeTestResult(folder, tuple(results))


def _analyse(label: str, values: Mapping[str, Any], runs: tuple[Run, ...]) -> SettingResult:
    curves = [read_curve(run.folder / "metrics.csv", run.record.status == "diverged") for run in runs]
    steps = max(run.record.steps for run in runs)
    schedule = runs[0].record.config["scheduler"]
    lowest_lr = float(schedule["min_lr"]) or float(schedule["max_lr"]) / 1e5
    smoothed: list[SmoothCurve] = []
    mean = None
    shortest = min(curves, key=lambda curve: len(curve.lr))
    if len(shortest.lr) < FEWEST_POINTS:
        proposal = too_short(len(shortest.lr), _decades_to_divergence(shortest), steps, lowest_lr)
    else:
        smoothed = [smooth(curve) for curve in curves]
        mean = mean_curve(smoothed)
        proposal = propose(mean, steps, lowest_lr)
    of_seeds = tuple(propose(curve, steps, lowest_lr) for curve in smoothed)
    return SettingResult(label, values, runs, tuple(curves), tuple(smoothed), mean, proposal, of_seeds)


def _decades_to_divergence(curve: Curve) -> float | None:
    if not curve.diverged:
        return None
    return math.log10(float(curve.lr[-1] / curve.lr[0])) if len(curve.lr) > 1 else 0.0


def write_json(result: RangeTestResult) -> Path:
    """Replace `lr_range.json` in the folder and return its path."""
    first = result.settings[0].runs[0].record
    content = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "label": SMOKE if result.smoke else None,
        "model": first.choices.get("model", ""),
        "data": first.choices.get("data", ""),
        "data_sha256": first.data.get("sha256", ""),
        "rules": {"max_lr": RULE_MAX, "min_lr": RULE_MIN},
        "settings": [_setting_json(setting, result.folder) for setting in result.settings],
        "proposal": _bounds_json(result.best),
    }
    path = result.folder / FILE_NAME
    write_atomically(path, json.dumps(content, indent=2) + "\n")
    return path


def _setting_json(setting: SettingResult, folder: Path) -> dict[str, Any]:
    proposal, mean, curve = setting.proposal, setting.mean, None
    if mean is not None:
        lr, loss = thin(mean.lr, mean.loss)
        curve = {"lr": lr.tolist(), "smoothed_loss": loss.tolist(), "diverged": mean.diverged}
    return {
        "label": setting.label,
        "values": {
            key: value if isinstance(value, bool | int | float | str | None) else human(value)
            for key, value in setting.values.items()
        },
        "essentials": essentials(setting.runs[0].record.config),
        "seeds": setting.seeds,
        "runs": [str(run.folder.relative_to(folder.resolve())) for run in setting.runs],
        "steps": max(run.record.steps for run in setting.runs),
        "points": None if proposal.points is None else asdict(proposal.points),
        "curve": curve,
        "proposal": _bounds_json(setting),
        "why_not": proposal.why_not,
        "go_on": proposal.go_on,
        "notes": setting.notes,
    }


def _bounds_json(setting: SettingResult | None) -> dict[str, Any] | None:
    if setting is None or not setting.proposal.supported:
        return None
    keys: Sequence[str] = ("min_lr", "max_lr", "min_lr_reason", "max_lr_reason")
    return {"setting": setting.label, **{key: getattr(setting.proposal, key) for key in keys}}
