"""Ordinary runs in sub-folders of a study: composed like a command line, reused, resumed or started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import OmegaConf

from tempo.config.check import check
from tempo.config.resolve import composed
from tempo.errors import UserError
from tempo.record.folder_lock import FolderLock
from tempo.record.run_folder import Need, move_aside, need_of, readable_record
from tempo.record.run_json import FILE_NAME, RunRecord, config_hash
from tempo.report.load_runs import Run, read_curves
from tempo.run.run_request import RunRequest
from tempo.run.train import run


class StudyInterrupted(Exception):  # noqa: N818 - the user's wish, not an error
    """A run of the study was stopped and has saved its state."""


@dataclass
class StageRunner:
    """Runs `src/train.py <overrides> <more>` in `folder/<name>`; needs Hydra to be initialised."""

    folder: Path
    overrides: Sequence[str]
    epochs: float = 0.0
    """Of all runs so far, those that failed and those of earlier calls of the same study included."""
    runs: list[Run] = field(default_factory=list)
    fresh: list[tuple[RunRecord, float]] = field(default_factory=list)
    """The runs that this call began, with their seconds by the clock."""
    _by_hash: dict[str, Run] = field(default_factory=dict)
    _configs: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, str]]] = field(default_factory=dict)

    def config(self, more: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Configuration of a run as plain values, checked, and group -> option."""
        if (known := self._configs.get(tuple(more))) is None:
            known = self._configs[tuple(more)] = self._composed(more)
        return known

    def _composed(self, more: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
        made = compose("train", overrides=[*self.overrides, *more], return_hydra_config=True)
        # The run's folder is given, not asked for.
        OmegaConf.set_readonly(made, False)
        values = composed(made)
        check(values)
        choices = {str(k): str(v) for k, v in made.hydra.runtime.choices.items()}
        return values, {k: v for k, v in choices.items() if v != "None" and not k.startswith("hydra")}

    def need(self, name: str, more: Sequence[str]) -> Need:
        """What `run` would do; nothing for a configuration that cannot work."""
        try:
            wanted = config_hash(self.config(more)[0])
        except UserError:
            return "nothing"
        return "nothing" if wanted in self._by_hash else need_of(self.folder / name, wanted)

    def run(self, name: str, more: Sequence[str]) -> Run:
        """The run `name`: what is finished counts, what was cut goes on, else it starts.

        A run of this study that had the very same configuration is that run. A run of another configuration
        that lies where this one belongs is moved to `<study>.replaced`.

        Raises:
            StudyInterrupted: the user stopped it.
            UserError: the run failed for a reason the user can mend.
        """
        values, choices = self.config(more)
        folder, wanted = self.folder / name, config_hash(values)
        if (same := self._by_hash.get(wanted)) is not None:
            return same
        need = need_of(folder, wanted)
        if need == "nothing":
            record = RunRecord.read(folder)
        else:
            _make_room(folder, wanted)
            folder.mkdir(parents=True, exist_ok=True)
            job = check({**values, "resume": str(folder)} if need == "resume" else values)
            overrides = [*self.overrides, *more]
            record = self._run(RunRequest(config=job, folder=folder, overrides=overrides, choices=choices))
            if record.status == "interrupted":
                raise StudyInterrupted(str(folder))
        self.epochs += record.epochs
        curves = read_curves(folder / "metrics.csv")
        done = Run(folder, record, curves, self.folder)
        self.runs.append(done)
        self._by_hash[wanted] = done
        return done

    def _run(self, job: RunRequest) -> RunRecord:
        began = time.perf_counter()
        try:
            record = run(job)
        except Exception:
            failed = readable_record(job.folder)
            self.epochs += failed.epochs if failed else 0.0
            raise
        if not job.config["resume"]:
            self.fresh.append((record, time.perf_counter() - began))
        return record


def _make_room(folder: Path, wanted: str) -> None:
    record = readable_record(folder)
    if not (folder / FILE_NAME).exists() or (record and record.config_hash == wanted):
        return
    with FolderLock(folder, what="another run", remedy="choose another hydra.run.dir=<folder>"):
        pass  # nobody is at work there
    kept = move_aside(folder)
    why = "its record cannot be read" if record is None else "it is a run of another configuration"
    print(f"moved     {folder} to {kept}: {why}")
