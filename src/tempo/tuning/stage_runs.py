"""Runs of the procedure, in subfolders of its folder: reuse finished ones, resume or start the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose

from tempo.config.check import check
from tempo.config.resolve_interpolations import chosen_options, composed
from tempo.errors import UserError
from tempo.record.folder_lock import FolderLock
from tempo.record.run_folder import Need, move_aside, need_of, readable_record
from tempo.record.run_json import FILE_NAME, RunRecord, config_hash
from tempo.report.load_runs import Run, override_key, read_curves
from tempo.run.run_request import RunRequest
from tempo.run.train import run
from tempo.sweep.jobs import CONSOLE_FILE
from tempo.sweep.launcher.job_process import output_in
from tempo.sweep.progress import duration, outcome


class ProcedureInterrupted(Exception):  # noqa: N818 - the user's wish, not an error
    """A run of the procedure was interrupted and has saved a checkpoint."""


@dataclass
class StageRuns:
    """Runs of `src/train.py <overrides> <more>` in `folder/<name>`; Hydra must be initialised."""

    folder: Path
    overrides: Sequence[str]
    epochs: float = 0.0
    """Epochs of all runs, including failed runs and those of earlier calls."""
    planned: int = 0
    """Largest number of runs by the plan; 0 while there is none."""
    left_out: int = 0
    """Number of planned runs that repeat another one, or are not needed."""
    finished: list[Run] = field(default_factory=list)
    fresh: list[tuple[RunRecord, float]] = field(default_factory=list)
    """Runs that this call started, with their wall-clock seconds."""
    _by_hash: dict[str, Run] = field(default_factory=dict)
    _composed: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, str]]] = field(default_factory=dict)

    def config(self, more: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the checked configuration of a run as plain values, and the option of each group."""
        if tuple(more) not in self._composed:
            made = compose("train", overrides=[*self.overrides, *more], return_hydra_config=True)
            values = composed(made)
            check(values)
            self._composed[tuple(more)] = values, chosen_options(made.hydra)
        return self._composed[tuple(more)]

    def set_override(self, override: str) -> None:
        """Set a key in every run; an earlier override of the same key is replaced."""
        name = override_key(override)
        self.overrides = [*(old for old in self.overrides if override_key(old) != name), override]
        self._composed.clear()

    def need(self, name: str, more: Sequence[str]) -> Need:
        """Return the work that `run` would do; "nothing" also if the configuration is refused."""
        try:
            wanted = config_hash(self.config(more)[0])
        except UserError:
            return "nothing"
        return "nothing" if wanted in self._by_hash else need_of(self.folder / name, wanted)

    def run(self, name: str, more: Sequence[str]) -> Run:
        """Return the run `name`: reuse a finished one, resume an interrupted one, otherwise start it.

        A run of the procedure with the same configuration is reused under any name. A run of another
        configuration in the folder is moved to `<folder of the procedure>.replaced`.

        Raises:
            ProcedureInterrupted: the user interrupted it.
            UserError: the run failed for a reason that the user can correct.
        """
        values, choices = self.config(more)
        folder, wanted = self.folder / name, config_hash(values)
        if wanted in self._by_hash:
            self.left_out += self._by_hash[wanted].folder != folder
            return self._by_hash[wanted]
        need = need_of(folder, wanted)
        if need == "nothing":
            record = RunRecord.read(folder)
        else:
            _move_other_run(folder, wanted)
            folder.mkdir(parents=True, exist_ok=True)
            config = check({**values, "resume": str(folder)} if need == "resume" else values)
            overrides = [*self.overrides, *more]
            record = self._run(RunRequest(config=config, folder=folder, overrides=overrides, choices=choices))
            if record.status == "interrupted":
                raise ProcedureInterrupted(str(folder))
        self.epochs += record.epochs
        done = Run(folder, record, read_curves(folder / "metrics.csv"), self.folder)
        self.finished.append(done)
        self._by_hash[wanted] = done
        return done

    def _run(self, request: RunRequest) -> RunRecord:
        began, number = time.perf_counter(), len(self.finished) + 1
        of = f" of {max(number, self.planned - self.left_out)}" if self.planned else ""
        print(f"run {number}{of}", request.folder.name, end=" ", flush=True)
        ended = "failed"
        try:
            with output_in(request.folder / CONSOLE_FILE):
                record = run(request)
            ended = outcome(record)
        except Exception:
            failed = readable_record(request.folder)
            self.epochs += failed.epochs if failed else 0.0
            raise
        finally:
            print(f"{ended} in {duration(time.perf_counter() - began)}", flush=True)
        if not request.config.resume:
            self.fresh.append((record, time.perf_counter() - began))
        return record


def _move_other_run(folder: Path, wanted: str) -> None:
    """Move aside a run of another configuration, or one with a damaged record."""
    record = readable_record(folder)
    if not (folder / FILE_NAME).exists() or (record and record.config_hash == wanted):
        return
    with FolderLock(folder, what="another run", remedy="choose another hydra.run.dir=<folder>"):
        pass  # taking the lock only checks that no process is running in the folder
    moved = move_aside(folder)
    why = "its record cannot be read" if record is None else "it is a run of another configuration"
    print(f"moved     {folder} to {moved}: {why}")
