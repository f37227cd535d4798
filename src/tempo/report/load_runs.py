"""Read the records and curves of all runs below some folders, and list those that cannot be read."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tempo.errors import UserError
from tempo.paths import as_typed
from tempo.record.metric_names import mode_in_name
from tempo.record.read_file import MOST_TABLE_BYTES, read_text
from tempo.record.run_json import FILE_NAME, SWEEP_FILE, RunRecord, flatten

Array = NDArray[np.float64]
CURVES_FILE = "metrics.csv"
INSIDE_A_RUN = frozenset({".hydra", "checkpoints", "tensorboard"})


@dataclass(frozen=True)
class SweepJob:
    """The folder of one job of a sweep and the overrides that make it."""

    folder: Path
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """Command, swept keys and jobs of a sweep, as in its sweep.json."""

    folder: Path
    command: tuple[str, ...]
    keys: tuple[str, ...]
    jobs: tuple[SweepJob, ...]

    def command_of(self, overrides: Sequence[str]) -> str:
        """Return the command that runs one job, given its own overrides."""
        own = {override_key(override) for override in overrides} | {"resume", *self.keys}
        script, shared = "src/train.py", []
        for word in self.command:
            if word.endswith(".py"):
                script = word
            elif "=" in word and not word.startswith(("-", "hydra")) and override_key(word) not in own:
                shared.append(word)
        return as_typed(shlex.join(["python", script, *shared, *overrides]))


@dataclass(frozen=True, eq=False)
class Run:
    """The record and curves of a run; `given` is the folder that the user named."""

    folder: Path
    record: RunRecord
    curves: Mapping[str, Array]
    given: Path
    sweep: Sweep | None = None

    @cached_property
    def flat(self) -> dict[str, Any]:
        """The configuration by dotted key."""
        return flatten(self.record.config)

    @property
    def repeat(self) -> tuple[int, int]:
        """Fold and seed: what tells the runs of one setting apart. Without cross-validation the fold is 0."""
        fold = self.flat.get("data.fold")
        return (fold if isinstance(fold, int) else 0), self.record.seed

    @property
    def smoke(self) -> bool:
        """Whether the run only tests the code path, so that its numbers are not comparable."""
        return self.record.config.get("scale") == "smoke"

    @property
    def command(self) -> str:
        """The command that reruns it."""
        overrides = [item for item in self.record.overrides if override_key(item) != "resume"]
        if self.sweep is not None:
            return self.sweep.command_of(overrides)
        return as_typed(shlex.join(["python", self.record.script, *overrides]))

    @property
    def train_seconds(self) -> float:
        """Seconds of training; NaN if not recorded."""
        return self.record.seconds.get("train", float("nan"))

    @property
    def joules(self) -> float:
        """Energy of training, measured or estimated; NaN if the run did not record it."""
        value = self.record.energy.get("joules")
        return float(value) if isinstance(value, (int, float)) else float("nan")

    def more_is_better(self, metric: str) -> bool:
        """Whether larger values are better, by the record of the objective or by the metric's name."""
        objective = self.record.objective
        if objective.get("mode") and objective.get("name", "").partition("/")[2] == metric.partition("/")[2]:
            return objective["mode"] == "max"
        return mode_in_name(metric) != "min"

    def metric(self, name: str) -> float:
        """Return the final value of `val/accuracy` and the like; NaN if not recorded."""
        split, _, leaf = name.partition("/")
        return float(self.record.metrics.get(split, {}).get(leaf, float("nan")))

    def series(self, column: str, x: str = "epoch") -> tuple[Array, Array]:
        """Return a column of metrics.csv over another one, ordered, finite values only.

        A resumed run may have written a step twice; the later row counts.
        """
        if column not in self.curves or x not in self.curves:
            return np.empty(0), np.empty(0)
        xs, ys = self.curves[x], self.curves[column]
        kept = np.isfinite(xs) & np.isfinite(ys)
        latest = dict(sorted(dict(zip(np.round(xs[kept], 6), ys[kept], strict=True)).items()))
        return np.array(list(latest), dtype=np.float64), np.array(list(latest.values()), dtype=np.float64)


@dataclass(frozen=True)
class Unreadable:
    """A run without a readable record; `command` reruns it, or empty if that is unknown."""

    folder: Path
    why: str
    command: str = ""


@dataclass
class Collection:
    """Everything found below some folders."""

    runs: list[Run] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    sweeps: list[Sweep] = field(default_factory=list)


class NoRunError(UserError):
    """There is no run below the folders."""


RunCache = dict[Path, tuple[object, "Run"]]
"""Folder of a run -> the times and sizes of its files when it was read, and what was read."""


def load(folders: Sequence[Path], cache: RunCache | None = None) -> Collection:
    """Read every run below `folders`, which may be runs, sweeps, or folders above them.

    A run whose files have not changed is taken from `cache`, which is kept up to date.

    Raises:
        UserError: a folder does not exist or cannot be opened.
        NoRunError: there is no run at all.
    """
    for given in folders:
        if not given.is_dir():
            raise UserError(f"{given} is not a folder; pass the folder of a run or a sweep")
        if not os.access(given, os.R_OK | os.X_OK):
            raise UserError(f"{given} cannot be opened: Permission denied; check its permissions")
    found, seen = Collection(), set[Path]()
    for given in folders:
        top = given.resolve()
        # A job given on its own still belongs to the sweep in the folder above.
        sweeps = {folder: _read_sweep(folder, found) for folder in (top.parent, top)}
        for folder in _run_folders(top, sweeps, found):
            if folder not in seen:
                seen.add(folder)
                sweep = next((sweeps[above] for above in folder.parents if sweeps.get(above)), None)
                _add(found, folder, given, sweep, {} if cache is None else cache)
        for sweep in filter(None, sweeps.values()):
            _add_missing_jobs(found, top, seen, sweep)
    if not found.runs and not found.unreadable:
        raise NoRunError(f"no run under {', '.join(map(str, folders))}: no folder there has a {FILE_NAME}")
    return found


def _run_folders(top: Path, sweeps: dict[Path, Sweep | None], found: Collection) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        found.unreadable.append(Unreadable(Path(error.filename), f"cannot be opened: {error.strerror}"))

    for where, inner, files in os.walk(top, onerror=refused):
        folder = Path(where)
        if folder not in sweeps:
            sweeps[folder] = _read_sweep(folder, found)
        if FILE_NAME in files or CURVES_FILE in files or ".hydra" in inner:
            # A run has no runs inside.
            inner.clear()
            yield folder
        inner[:] = sorted(set(inner) - INSIDE_A_RUN)


def _add(found: Collection, folder: Path, given: Path, sweep: Sweep | None, cache: RunCache) -> None:
    files = tuple(_time_and_size(folder / name) for name in (FILE_NAME, CURVES_FILE))
    read_at, known = cache.get(folder, (None, None))
    if known is not None and read_at == files:
        found.runs.append(replace(known, given=given, sweep=sweep))
        return
    try:
        record = RunRecord.read(folder)
    except UserError as error:
        jobs = [job for job in sweep.jobs if job.folder == folder] if sweep else []
        command = sweep.command_of(jobs[0].overrides) if sweep and jobs else ""
        found.unreadable.append(Unreadable(folder, str(error), command))
        return
    curves: dict[str, Array] = {}
    try:
        curves = read_curves(folder / CURVES_FILE)
    except UserError as error:
        found.unreadable.append(Unreadable(folder, f"{error}; its run is shown without curves"))
    found.runs.append(Run(folder, record, curves, given, sweep))
    cache[folder] = files, found.runs[-1]


def _time_and_size(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _add_missing_jobs(found: Collection, top: Path, seen: set[Path], sweep: Sweep) -> None:
    if sweep not in found.sweeps:
        found.sweeps.append(sweep)
    for job in sweep.jobs:
        if job.folder not in seen and job.folder.is_relative_to(top):
            seen.add(job.folder)
            why = f"no {FILE_NAME}: the job was never started, or was killed before it wrote its record"
            found.unreadable.append(Unreadable(job.folder, why, sweep.command_of(job.overrides)))


def _read_sweep(folder: Path, found: Collection) -> Sweep | None:
    path = folder / SWEEP_FILE
    if not path.exists():
        return None
    try:
        values = json.loads(read_text(path))
        if not all(isinstance(values[key], list) for key in ("command", "keys", "jobs")):
            raise TypeError("command, keys and jobs must be lists")
        jobs = tuple(SweepJob(folder / job["folder"], tuple(job["overrides"])) for job in values["jobs"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"{SWEEP_FILE} is damaged ({error}); its runs are read as single runs"
        found.unreadable.append(Unreadable(folder, why))
        return None
    return Sweep(folder, tuple(map(str, values["command"])), tuple(map(str, values["keys"])), jobs)


def read_curves(path: Path) -> dict[str, Array]:
    """Return the columns of a metrics.csv, NaN for empty cells; half-written rows are left out.

    Raises:
        UserError: the file exists, but is not a regular file, is too large or cannot be opened.
    """
    try:
        text = read_text(path, MOST_TABLE_BYTES, errors="replace").replace("\0", "")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); restore or delete it") from error
    whole, _, _ = text.rpartition("\n")
    rows = csv.reader(io.StringIO(whole))
    header = next(rows, [])
    values = [numbers for row in rows if (numbers := _numbers(row, len(header))) is not None]
    table = np.array(values, dtype=np.float64).reshape(len(values), len(header))
    return {name: table[:, column] for column, name in enumerate(header)}


def _numbers(row: list[str], width: int) -> list[float] | None:
    if len(row) != width:
        return None
    try:
        return [float(cell) if cell else float("nan") for cell in row]
    except ValueError:
        return None


def varies(values: Array) -> bool:
    """Whether finite values differ by more than rounding, so that their curve shows something."""
    here = values[np.isfinite(values)]
    return len(here) > 0 and float(np.ptp(here)) > 1e-9 * float(np.abs(here).max())


def evenly_spaced(count: int, most: int) -> NDArray[np.intp]:
    """Return at most `most` of the indices 0 to count - 1, evenly spaced, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def override_key(override: str) -> str:
    """Return the key of an override: `+data.x=3` is about `data.x`."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0]
