"""Ordinary runs in sub-folders of a study: composed like a command line, reused, resumed or started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import OmegaConf

from tempo.config import check, composed
from tempo.errors import UserError
from tempo.folder_lock import FolderLock
from tempo.record import FILE_NAME, RunRecord, config_hash
from tempo.report.load import Run, read_curves
from tempo.run import Job, run


class StudyInterrupted(Exception):  # noqa: N818 - the user's wish, not an error
    """A run of the study was stopped and has saved its state."""


@dataclass
class StageRunner:
    """Runs `src/train.py <overrides> <more>` in `folder/<name>`; needs Hydra to be initialised."""

    folder: Path
    overrides: Sequence[str]
    seconds: float = 0.0
    """Of all runs so far, those of earlier calls of the same study included."""
    epochs: float = 0.0
    runs: list[Run] = field(default_factory=list)
    _by_hash: dict[str, Run] = field(default_factory=dict)

    def config(self, more: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Configuration of a run as plain values, checked, and group -> option."""
        made = compose("train", overrides=[*self.overrides, *more], return_hydra_config=True)
        # The run's folder is given, not asked for.
        OmegaConf.set_readonly(made, False)
        values = composed(made)
        check(values)
        choices = {str(k): str(v) for k, v in made.hydra.runtime.choices.items()}
        return values, {k: v for k, v in choices.items() if v != "None" and not k.startswith("hydra")}

    def run(self, name: str, more: Sequence[str]) -> Run:
        """The run `name`: what is finished counts, what was cut goes on, else it starts.

        A run of this study that had the very same configuration is that run. A run of another configuration
        that lies where this one belongs is moved to `<study>.replaced`.

        Raises:
            StudyInterrupted: the user stopped it.
            UserError: the run failed for a reason the user can mend.
        """
        values, choices = self.config(more)
        folder = self.folder / name
        if (same := self._by_hash.get(_hash(values))) is not None:
            return same
        record = self._finished(folder, values)
        if record is None:
            resume = _is_cut(folder, values)
            self._make_room(folder, values)
            folder.mkdir(parents=True, exist_ok=True)
            job = {**values, "resume": str(folder)} if resume else values
            overrides = [*self.overrides, *more]
            record = run(Job(config=job, folder=folder, overrides=overrides, choices=choices))
            if record.status == "interrupted":
                raise StudyInterrupted(str(folder))
        self.seconds += record.seconds.get("total", 0.0)
        self.epochs += record.epochs
        curves = read_curves(folder / "metrics.csv")
        done = Run(folder, record, curves, self.folder)
        self.runs.append(done)
        self._by_hash[_hash(values)] = done
        return done

    def _make_room(self, folder: Path, values: dict[str, Any]) -> None:
        record = _record(folder)
        if not (folder / FILE_NAME).exists() or (record and record.config_hash == _hash(values)):
            return
        with FolderLock(folder, what="another run", remedy="choose another hydra.run.dir=<folder>"):
            pass  # nobody is at work there
        beside = self.folder.with_name(f"{self.folder.name}.replaced")
        kept = next(each for n in range(1, 10_000) if not (each := beside / f"{folder.name}~{n}").exists())
        beside.mkdir(parents=True, exist_ok=True)
        folder.rename(kept)
        why = "its record cannot be read" if record is None else "it is a run of another configuration"
        print(f"moved     {folder} to {kept}: {why}")

    def _finished(self, folder: Path, values: dict[str, Any]) -> RunRecord | None:
        record = _record(folder)
        same = record is not None and record.config_hash == _hash(values)
        return record if record is not None and same and record.finished else None


def _is_cut(folder: Path, values: dict[str, Any]) -> bool:
    record = _record(folder)
    if record is None or record.config_hash != _hash(values):
        return False
    state = any((folder / "checkpoints" / f"{name}.ckpt").exists() for name in ("last", "previous"))
    return record.status in ("running", "interrupted") and state


def _record(folder: Path) -> RunRecord | None:
    try:
        return RunRecord.read(folder) if (folder / FILE_NAME).exists() else None
    except UserError:
        return None


def _hash(values: dict[str, Any]) -> str:
    return config_hash({key: value for key, value in values.items() if key != "resume"})
