"""Results of a search: its trials, the command of the best one, and the importance of each key."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tempo.record.read_file import read_text
from tempo.record.run_folder import SEARCH_FILE
from tempo.report.load_runs import Collection, Sweep, Unreadable
from tempo.report.number_format import amount, counted, head_of, human, metric_name, short_keys, unit
from tempo.report.results_table import (
    Cell,
    Columns,
    Table,
    count_cell,
    number_cell,
    table_of,
    text_cell,
    value_cell,
)

ENTRIES = {"objective": str, "mode": str, "sampler": str, "space": dict, "importance": dict, "trials": list}


@dataclass(frozen=True)
class SearchTrial:
    """One trial: its values by key, its objective (NaN unless completed), and what it reported per epoch."""

    number: int
    folder: Path
    status: str
    values: Mapping[str, Any]
    value: float
    by_epoch: Mapping[int, float]

    @property
    def shown(self) -> float:
        """The objective; for a trial that was stopped early, the last value it reported."""
        if math.isfinite(self.value) or not self.by_epoch:
            return self.value
        return self.by_epoch[max(self.by_epoch)]


@dataclass(frozen=True)
class Search:
    """The content of search.json: the space, and the trials in the order drawn."""

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
        """The searched keys."""
        return tuple(self.space)

    @property
    def completed(self) -> list[SearchTrial]:
        """The trials with an objective."""
        return [trial for trial in self.trials if math.isfinite(trial.value)]

    @cached_property
    def best(self) -> SearchTrial | None:
        """The completed trial with the best value, the earliest of equal ones."""
        sign = -1 if self.mode == "max" else 1
        return min(self.completed, key=lambda trial: (sign * trial.value, trial.number), default=None)

    @property
    def best_command(self) -> str:
        """The command that trains the best trial alone, or "" if there is none."""
        jobs = [job for job in self.sweep.jobs if self.best and job.folder == self.best.folder]
        return self.sweep.command_of(jobs[0].overrides) if jobs else ""

    @property
    def outcome(self) -> str:
        """Sentence with the number of trials per outcome."""
        ends = Counter(trial.status for trial in self.trials)
        counts = ", ".join(f"{count} {status}" for status, count in ends.items())
        return f"{counted(len(self.trials), 'trial')} by {self.how}: {counts}."

    @property
    def verdict(self) -> str:
        """Sentence that describes the best trial."""
        if self.best is None:
            return "No trial was completed."
        names = zip(short_keys(self.keys), self.keys, strict=True)
        values = ", ".join(f"{name}={human(self.best.values.get(key))}" for name, key in names)
        value = f"{amount(self.best.value, self.objective)}{unit(self.objective)}"
        return (
            f"Best: trial {self.best.number}, {values}, {metric_name(self.objective)} {value}. "
            "It was chosen as the best of several: judge it by the test images, over new seeds."
        )

    @property
    def shares(self) -> str:
        """The importance of each key in words, or "" if there were too few trials."""
        ordered = sorted(self.importance.items(), key=lambda item: -item[1])
        return ", ".join(f"{key} {100 * share:.0f} %" for key, share in ordered)

    def best_so_far(self) -> tuple[list[int], list[float]]:
        """Return the numbers of the completed trials, and the best value up to each."""
        pick = max if self.mode == "max" else min
        best = list[float]()
        for trial in self.completed:
            best.append(pick([*best[-1:], trial.value]))
        return [trial.number for trial in self.completed], best


def searches_of(found: Collection) -> list[Search]:
    """Return the searches among the sweeps; a damaged search.json is noted as unreadable."""
    searches = []
    for sweep in found.sweeps:
        path = sweep.folder / SEARCH_FILE
        if not path.exists():
            continue
        try:
            searches.append(_read(sweep, path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{SEARCH_FILE} is damaged ({error}); its runs are shown as those of a sweep"
            found.unreadable.append(Unreadable(sweep.folder, why))
    return searches


def trials_table(search: Search) -> Table:
    """Return one row per trial, in the order drawn."""

    def objective(trial: SearchTrial) -> Cell:
        early = math.isnan(trial.value) and math.isfinite(trial.shown)
        text = amount(trial.shown, search.objective) + (" (last reported)" if early else "")
        return number_cell(trial.shown, text)

    columns: Columns[SearchTrial] = [
        ("trial", lambda trial: count_cell(trial.number)),
        *(
            (name, lambda trial, key=key: value_cell(trial.values.get(key)))
            for name, key in zip(short_keys(search.keys), search.keys, strict=True)
        ),
        ("status", lambda trial: text_cell(trial.status)),
        (head_of(search.objective), objective),
        ("epochs", lambda trial: count_cell(max(trial.by_epoch, default=0))),
        ("folder", lambda trial: text_cell(trial.folder.name, trial.folder)),
    ]
    best = search.trials.index(search.best) if search.best is not None else None
    return table_of(columns, search.trials, best)


def _read(sweep: Sweep, path: Path) -> Search:
    values = json.loads(read_text(path))
    if not all(isinstance(values[key], kind) for key, kind in ENTRIES.items()):
        raise TypeError("entries of the wrong type")
    pruner = values.get("pruner")
    return Search(
        sweep=sweep,
        objective=values["objective"],
        mode=values["mode"],
        how=values["sampler"] + (f" with {pruner}" if pruner not in (None, "none") else ""),
        space={str(key): str(words) for key, words in values["space"].items()},
        log_axes=tuple(map(str, values.get("log_axes", []))),
        importance={str(key): float(share) for key, share in values["importance"].items()},
        trials=tuple(_trials(sweep.folder, values["trials"])),
    )


def _trials(folder: Path, trials: Sequence[Any]) -> list[SearchTrial]:
    return [
        SearchTrial(
            number=int(trial["number"]),
            # The last part alone: a file from elsewhere must not lead out of the folder of its sweep.
            folder=folder / Path(str(trial["folder"])).name,
            status=str(trial["status"]),
            values=dict(trial["values"]),
            value=math.nan if trial["value"] is None else float(trial["value"]),
            by_epoch={int(epoch): float(value) for epoch, value in trial["by_epoch"].items()},
        )
        for trial in trials
    ]
