"""Jobs of a sweep: their folders, the work left for each, and `sweep.json`, which lists them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tempo.errors import UserError
from tempo.paths import as_typed
from tempo.record.atomic_write import write_atomically
from tempo.record.folder_lock import FolderLock
from tempo.record.read_file import read_text
from tempo.record.run_folder import (
    FIRST_FILES,
    FIRST_FILES_OF_RANKS,
    Need,
    move_aside,
    need_of,
    readable_record,
)
from tempo.record.run_json import FILE_NAME, SWEEP_FILE, RunRecord, config_hash

SWEEP_VERSION = 1
CONSOLE_FILE = "console.log"
PREVIOUS_RECORD = f"{FILE_NAME}.previous"
"""File with the record of an attempt without a result, once the next attempt has begun."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its name, overrides, folder and configuration."""

    slug: str
    overrides: tuple[str, ...]
    folder: Path
    values: Mapping[str, Any]

    @property
    def config_hash(self) -> str:
        """Hash of the configuration, as in the record of the run."""
        return config_hash(self.values)

    def record(self) -> RunRecord | None:
        """Return the record in the job's folder, or None if there is none that can be read."""
        return readable_record(self.folder)

    def need(self) -> Need:
        """Return the work left, assuming no process is running the job."""
        return need_of(self.folder, self.config_hash)

    def make_room(self) -> str:
        """Free the folder for a run from the start; return a line to print if an old run was moved away.

        A run of this configuration that failed, or stopped before its first checkpoint, stays and is
        overwritten by the new run. A run of another configuration is moved to `<sweep>.replaced`.
        """
        if not self.folder.exists():
            return ""
        record = self.record()
        if record is not None and record.config_hash == self.config_hash:
            return ""
        has_record = (self.folder / FILE_NAME).exists()
        if not has_record and (self._began_before() or self._has_first_files_only()):
            return ""
        kept = move_aside(self.folder)
        if record is not None:
            why = difference(record.config, self.values)
        else:
            why = "its record cannot be read" if has_record else f"there were files without a {FILE_NAME}"
        return f"{self.slug}: runs again, {why}; the old folder is now {kept}"

    def begin(self) -> None:
        """Put the record of an earlier attempt aside, as it does not describe the attempt that begins."""
        if (self.folder / FILE_NAME).exists():
            (self.folder / FILE_NAME).replace(self.folder / PREVIOUS_RECORD)

    def _began_before(self) -> bool:
        """Whether the last attempt left no record but an earlier one at this configuration did."""
        try:
            text = read_text(self.folder / PREVIOUS_RECORD)
            return RunRecord.from_json(text).config_hash == self.config_hash
        except (OSError, UnicodeDecodeError, UserError):
            return False

    def _has_first_files_only(self) -> bool:
        """Whether the folder has only files that a run writes before its record."""
        files = [path for path in self.folder.rglob("*") if path.is_symlink() or not path.is_dir()]
        names = [path.relative_to(self.folder).as_posix() for path in files]
        return all(
            name == CONSOLE_FILE or FIRST_FILES.fullmatch(name) or FIRST_FILES_OF_RANKS.fullmatch(name)
            for name in names
        )

    def command(self, script: str) -> str:
        """Return the command that runs the job alone."""
        return as_typed(shlex.join(["python", script, *self.overrides]))

    def record_reason(self, reason: str) -> bool:
        """Record why the job ended, if it could not do so itself; return whether that worked.

        If another process is running a run in the folder, its record is left alone.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FolderLock(self.folder, what="another run", remedy="wait"):
                record = self.record() or RunRecord(
                    config=dict(self.values),
                    config_hash=self.config_hash,
                    overrides=list(self.overrides),
                    seed=int(self.values.get("seed") or 0),
                    name=str(self.values.get("name", "")),
                    status="failed",
                )
                record.status = "interrupted" if record.status == "running" else record.status
                record.reason = reason
                record.write(self.folder)
        except UserError:
            return False
        return True


def difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return `optimizer.nesterov was False and is now True` for the first key that differs."""
    # `resume` says how a run began its session, and is not part of the hash either.
    for key in sorted({*then, *now} - {"resume"}):
        old, new = then.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if found := difference(old, new):
                return f"{key}.{found}"
        elif old != new:
            return f"{key} was {old!r} and is now {new!r}"
    return ""


def distinct_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Leave out jobs with the same configuration as an earlier one, since their runs would be identical."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.config_hash, job)
    return list(found.values())


def write_sweep(folder: Path, command: Sequence[str], keys: Sequence[str], jobs: Sequence[Job]) -> None:
    """Write `sweep.json`, with the jobs of this command and those of earlier commands."""
    entries = {entry["slug"]: entry for entry in _known_jobs(folder)}
    for job in jobs:
        entries[job.slug] = {
            "slug": job.slug,
            "overrides": list(job.overrides),
            "folder": job.folder.name,
        }
    values = {
        "schema_version": SWEEP_VERSION,
        "command": list(command),
        "keys": list(keys),
        "jobs": list(entries.values()),
    }
    write_atomically(folder / SWEEP_FILE, json.dumps(values, indent=2) + "\n")


def _known_jobs(folder: Path) -> list[dict[str, Any]]:
    try:
        jobs = json.loads(read_text(folder / SWEEP_FILE))["jobs"]
        return [job for job in jobs if isinstance(job["slug"], str)]
    # RecursionError: a file from elsewhere may be nested deeper than the JSON reader can follow.
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
