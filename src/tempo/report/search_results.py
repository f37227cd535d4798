"""An automatic search in a report: its trials, the best one's command, and how much each key mattered."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tempo.record.run_folder import SEARCH_FILE
from tempo.report.load_runs import Collection, Sweep, Unreadable
from tempo.report.number_format import amount, human, metric_name, short_keys, unit
from tempo.report.tables import Cell, Table, number_cell, value_cell

ENTRIES = {"objective": str, "mode": str, "sampler": str, "space": dict, "importance": dict, "trials": list}


@dataclass(frozen=True)
class SearchTrial:
    """One trial: its values by key, NaN as `value` unless it was completed, what it reported by epoch."""

    number: int
    folder: Path
    status: str
    reason: str
    values: Mapping[str, Any]
    value: float
    by_epoch: Mapping[int, float]

    @property
    def shown(self) -> float:
        """The value, of a trial that was stopped early the last one it reported."""
        if math.isfinite(self.value) or not self.by_epoch:
            return self.value
        return self.by_epoch[max(self.by_epoch)]


@dataclass(frozen=True)
class Search:
    """`search.json`: what was asked for, and the trials in the order in which they were drawn."""

    sweep: Sweep
    objective: str
    mode: str
    how: str
    space: Mapping[str, str]
    log_axes: tuple[str, ...]
    importance: Mapping[str, float]
    trials: tuple[SearchTrial, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """What was searched."""
        return tuple(self.space)

    @cached_property
    def best(self) -> SearchTrial | None:
        """The completed trial with the best value, the earliest of equals."""
        sign = -1 if self.mode == "max" else 1
        done = [each for each in self.trials if math.isfinite(each.value)]
        return min(done, key=lambda each: (sign * each.value, each.number), default=None)

    @property
    def best_command(self) -> str:
        """What trains the best one, alone; "" where there is none."""
        if self.best is None:
            return ""
        jobs = [each for each in self.sweep.jobs if each.folder == self.best.folder]
        return self.sweep.again(jobs[0].overrides) if jobs else ""

    @property
    def outcome(self) -> str:
        """One sentence: how it searched, what came of it."""
        ends = [each.status for each in self.trials]
        told = ", ".join(f"{ends.count(each)} {each}" for each in dict.fromkeys(ends))
        return f"{len(ends)} trial{'s' * (len(ends) != 1)} by {self.how}: {told}."

    @property
    def verdict(self) -> str:
        """One sentence: the best trial."""
        if self.best is None:
            return "No trial was completed."
        names = zip(short_keys(self.keys), self.keys, strict=True)
        point = ", ".join(f"{name}={human(self.best.values.get(key))}" for name, key in names)
        value = f"{amount(self.best.value, self.objective)}{unit(self.objective)}"
        return (
            f"Best: trial {self.best.number}, {point}, {metric_name(self.objective)} {value}. "
            "It was chosen as the best of several: judge it by the test images, over new seeds."
        )

    @property
    def shares(self) -> str:
        """Importance of each key in words; "" where there were too few trials."""
        ordered = sorted(self.importance.items(), key=lambda each: -each[1])
        return ", ".join(f"{key} {100 * share:.0f} %" for key, share in ordered)

    def best_so_far(self) -> tuple[list[int], list[float]]:
        """Trial numbers with a value, and the best value up to each."""
        pick = max if self.mode == "max" else min
        numbers, best = list[int](), list[float]()
        for each in self.trials:
            if math.isfinite(each.value):
                numbers.append(each.number)
                best.append(pick([*best[-1:], each.value]))
        return numbers, best


def searches_of(found: Collection) -> list[Search]:
    """The searches among the sweeps that were found; a damaged file is noted as unreadable."""
    searches = []
    for sweep in found.sweeps:
        path = sweep.folder / SEARCH_FILE
        if not path.is_file():
            continue
        try:
            searches.append(_read(sweep, path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{SEARCH_FILE} is damaged ({error}); the runs count as those of a sweep"
            found.unreadable.append(Unreadable(sweep.folder, why))
    return searches


def trials_table(search: Search) -> Table:
    """A row a trial, in the order of drawing."""
    head = ("trial", *short_keys(search.keys), "status", f"{metric_name(search.objective)}{_unit(search)}")
    rows = [_row(search, each) for each in search.trials]
    best = search.trials.index(search.best) if search.best is not None else None
    return Table((*head, "epochs", "folder"), rows, best)


def _row(search: Search, trial: SearchTrial) -> list[Cell]:
    stopped = "" if math.isfinite(trial.value) or math.isnan(trial.shown) else " (last reported)"
    return [
        Cell(str(trial.number), trial.number),
        *(value_cell(trial.values.get(key)) for key in search.keys),
        Cell(trial.status, trial.status),
        number_cell(trial.shown, amount(trial.shown, search.objective) + stopped),
        Cell(str(max(trial.by_epoch, default=0)), max(trial.by_epoch, default=0)),
        Cell(trial.folder.name, trial.folder.name, trial.folder),
    ]


def _unit(search: Search) -> str:
    return f",{unit(search.objective)}" if unit(search.objective) else ""


def _read(sweep: Sweep, path: Path) -> Search:
    values = json.loads(path.read_text(encoding="utf-8"))
    if not all(isinstance(values[key], kind) for key, kind in ENTRIES.items()):
        raise TypeError("entries of the wrong kind")
    pruner = values.get("pruner")
    how = f"{values['sampler']}" + (f" with {pruner}" if pruner not in (None, "none") else "")
    return Search(
        sweep=sweep,
        objective=values["objective"],
        mode=values["mode"],
        how=how,
        space={str(key): str(words) for key, words in values["space"].items()},
        log_axes=tuple(map(str, values.get("log_axes", []))),
        importance={str(key): float(share) for key, share in values["importance"].items()},
        trials=tuple(_trials(sweep.folder, values["trials"])),
    )


def _trials(folder: Path, trials: Sequence[Any]) -> list[SearchTrial]:
    return [
        SearchTrial(
            number=int(each["number"]),
            folder=folder / Path(str(each["folder"])).name,
            status=str(each["status"]),
            reason=str(each.get("reason", "")),
            values=dict(each["values"]),
            value=math.nan if each["value"] is None else float(each["value"]),
            by_epoch={int(epoch): float(value) for epoch, value in each["by_epoch"].items()},
        )
        for each in trials
    ]
