"""Folders in, runs out: every record and curve below them, and what could not be read."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tempo.errors import UserError
from tempo.record.run_json import FILE_NAME, SWEEP_FILE, RunRecord, flatten

Array = NDArray[np.float64]
CURVES_FILE = "metrics.csv"
INSIDE_A_RUN = frozenset({".hydra", "checkpoints", "tensorboard"})
SWEEP_ENTRIES = {"command": list, "keys": list, "jobs": list}


@dataclass(frozen=True)
class Job:
    """One combination of a sweep: where it runs and the overrides that make it."""

    folder: Path
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """`sweep.json`: the swept keys, the command and the jobs."""

    folder: Path
    command: tuple[str, ...]
    keys: tuple[str, ...]
    jobs: tuple[Job, ...]

    def again(self, overrides: Sequence[str]) -> str:
        """The command that runs one job, given what the job itself overrides."""
        named = {override_key(each) for each in overrides} | {"resume", *self.keys}
        script, shared = "src/train.py", []
        for each in self.command:
            if each.endswith(".py"):
                script = each
            elif "=" in each and not each.startswith(("-", "hydra")) and override_key(each) not in named:
                shared.append(each)
        return shlex.join(["python", script, *shared, *overrides])


@dataclass(frozen=True, eq=False)
class Run:
    """A run's record with its curves. `given` is the folder that the user named."""

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
    def smoke(self) -> bool:
        """Whether it only proves that the path works: its numbers compare with nothing."""
        return self.record.config.get("scale") == "smoke"

    @property
    def again(self) -> str:
        """The command that runs it once more."""
        overrides = [each for each in self.record.overrides if override_key(each) != "resume"]
        if self.sweep is not None:
            return self.sweep.again(overrides)
        return shlex.join(["python", self.record.script, *overrides])

    @property
    def train_seconds(self) -> float:
        """Of training alone; NaN where it is not recorded."""
        value = self.record.seconds.get("train")
        return float("nan") if value is None else float(value)

    @property
    def joules(self) -> float:
        """Of training, measured or estimated; NaN where the run was not asked for them."""
        value = self.record.energy.get("joules")
        return float(value) if isinstance(value, (int, float)) else float("nan")

    def metric(self, name: str) -> float:
        """Final value of `val/accuracy` and the like; NaN where the record has none."""
        split, _, leaf = name.partition("/")
        value = self.record.metrics.get(split, {}).get(leaf)
        return float("nan") if value is None else float(value)

    def series(self, column: str, x: str = "epoch") -> tuple[Array, Array]:
        """A column of `metrics.csv` over another, ordered, finite values only.

        A resumed run may have written a step twice: the later row counts.
        """
        empty = np.empty(0)
        if column not in self.curves or x not in self.curves:
            return empty, empty
        xs, ys = self.curves[x], self.curves[column]
        kept = np.isfinite(xs) & np.isfinite(ys)
        latest = dict(zip(np.round(xs[kept], 6), ys[kept], strict=True))
        order = sorted(latest)
        return np.array(order, dtype=np.float64), np.array([latest[each] for each in order], dtype=np.float64)


@dataclass(frozen=True)
class Unreadable:
    """A run that left no record, or a damaged one; `again` is empty where its command is not known."""

    folder: Path
    why: str
    again: str = ""


@dataclass
class Collection:
    """All that was found below some folders."""

    runs: list[Run] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    sweeps: list[Sweep] = field(default_factory=list)


def load(folders: Sequence[Path]) -> Collection:
    """Every run below `folders`, which may be runs, sweeps or any nesting of them.

    Raises:
        UserError: a folder does not exist, or there is neither a run nor the trace of one.
    """
    found, seen = Collection(), set[Path]()
    for given in folders:
        if not given.is_dir():
            raise UserError(f"{given} is no folder; name the folder of a run or of a sweep")
        if not os.access(given, os.R_OK | os.X_OK):
            raise UserError(f"{given} cannot be opened: Permission denied; check its permissions")
        sweeps = {given.resolve(): _read_sweep(given.resolve(), found)}
        parent = given.resolve().parent
        if (parent / SWEEP_FILE).is_file():
            sweeps[parent] = _read_sweep(parent, found)
        for folder in _run_folders(given.resolve(), sweeps, found):
            if folder not in seen:
                seen.add(folder)
                _add(found, folder, given, _sweep_of(folder, sweeps))
        _add_absent_jobs(found, given.resolve(), seen, [each for each in sweeps.values() if each])
    if not found.runs and not found.unreadable:
        raise UserError(f"no run under {', '.join(map(str, folders))}: no folder there holds a {FILE_NAME}")
    return found


def _run_folders(top: Path, sweeps: dict[Path, Sweep | None], found: Collection) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        found.unreadable.append(Unreadable(Path(error.filename), f"cannot be opened: {error.strerror}"))

    for where, inner, files in os.walk(top, onerror=refused):
        folder = Path(where)
        if folder not in sweeps and SWEEP_FILE in files:
            sweeps[folder] = _read_sweep(folder, found)
        if FILE_NAME in files or CURVES_FILE in files or ".hydra" in inner:
            inner.clear()
            yield folder
        inner[:] = sorted(set(inner) - INSIDE_A_RUN)


def _sweep_of(folder: Path, sweeps: Mapping[Path, Sweep | None]) -> Sweep | None:
    return next((each for each in map(sweeps.get, folder.parents) if each is not None), None)


def _add(found: Collection, folder: Path, given: Path, sweep: Sweep | None) -> None:
    try:
        record = RunRecord.read(folder)
    except UserError as error:
        job = next((each for each in sweep.jobs if each.folder == folder), None) if sweep else None
        again = sweep.again(job.overrides) if sweep and job else ""
        found.unreadable.append(Unreadable(folder, str(error), again))
        return
    found.runs.append(Run(folder, record, read_curves(folder / CURVES_FILE), given, sweep))


def _add_absent_jobs(found: Collection, top: Path, seen: set[Path], sweeps: list[Sweep]) -> None:
    for sweep in sweeps:
        if sweep not in found.sweeps:
            found.sweeps.append(sweep)
        for job in sweep.jobs:
            if job.folder not in seen and job.folder.is_relative_to(top):
                seen.add(job.folder)
                why = f"no {FILE_NAME}: the job was never started, or was killed before its record"
                found.unreadable.append(Unreadable(job.folder, why, sweep.again(job.overrides)))


def _read_sweep(folder: Path, found: Collection) -> Sweep | None:
    path = folder / SWEEP_FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(values[key], kind) for key, kind in SWEEP_ENTRIES.items()):
            raise TypeError(f"{', '.join(SWEEP_ENTRIES)} must be lists")
        jobs = tuple(Job(folder / each["folder"], tuple(each["overrides"])) for each in values["jobs"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        found.unreadable.append(
            Unreadable(folder, f"{SWEEP_FILE} is damaged ({error}); the jobs count alone")
        )
        return None
    return Sweep(folder, tuple(map(str, values["command"])), tuple(map(str, values["keys"])), jobs)


def read_curves(path: Path) -> dict[str, Array]:
    """The columns of a `metrics.csv`, NaN where a cell is empty; rows cut off in writing are left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    except OSError:
        return {}
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


def override_key(override: str) -> str:
    """`+data.x=3` is about `data.x`."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0]
