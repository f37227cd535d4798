"""Folder of a run: its files, the work left, checks before it is used, and its removal."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tempo.errors import UserError
from tempo.paths import IS_INSTALLED, ROOT, project, root
from tempo.record.folder_lock import LOCK_FILE
from tempo.record.foreign_folder import are_foreign
from tempo.record.newer_keys import without_newer_keys
from tempo.record.read_file import MOST_TABLE_BYTES, read_text
from tempo.record.run_json import FILE_NAME, RecordLostError, RunRecord, flatten

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
"""Files in `checkpoints/`; a run resumes from the last one, or from the one before it."""
SEARCH_FILE = "search.json"
"""Results of a search, in the folder of its sweep."""
_PROJECT_FOLDERS = (".ci", ".git", ".github", ".venv", "benchmarks", "conf", "docs", "src", "tests")
Need = Literal["nothing", "run", "resume"]

# The files of a folder before the first step: Hydra's, the first record and its diff, the lock, an empty
# event file.
HYDRAS_FILES = re.compile(r"\.hydra/(config|hydra|overrides)\.yaml|(train|lr_range|tune)\.log")
FIRST_FILES = re.compile(
    rf"{HYDRAS_FILES.pattern}|run\.json|\.run\.json\.\d+\.[0-9a-f]{{4}}|\.lock|git(_[0-9a-f]{{12}})?\.diff"
    r"|tensorboard/(hparams\.yaml|events\.out\.tfevents\.[^/]+)"
)
# Removed only if a rank refused the job, as its message gives the reason; other errors point to these logs.
FIRST_FILES_OF_RANKS = re.compile(r"job\.json|ranks/(rank\d+\.log|(group|torchrun)\.log|error\.json)")
_FIRST_FOLDERS = {".hydra", "checkpoints", "ranks", "tensorboard"}
_missing: dict[Path, list[Path]] = {}


def readable_record(folder: Path) -> RunRecord | None:
    """Return the record in a folder, or None if there is no readable one."""
    try:
        return RunRecord.read(folder)
    except UserError:
        return None


def need_of(folder: Path, config_hash: str) -> Need:
    """Return the work left for a run of this configuration, assuming no process is running it.

    "nothing" if it has a result, "resume" if it has a checkpoint, otherwise "run".
    """
    record = readable_record(folder)
    if record is None or record.config_hash != config_hash:
        return "run"
    if record.finished:
        return "nothing"
    return "resume" if has_checkpoint(folder) else "run"


def has_checkpoint(folder: Path) -> bool:
    """Whether a run's folder has a checkpoint to resume from."""
    return any((folder / "checkpoints" / name).exists() for name in (LAST, PREVIOUS))


def move_aside(folder: Path) -> Path:
    """Rename a folder to `<parent>.replaced/<name>~<n>` with the first free n, and return the new path."""
    replaced = folder.parent.with_name(f"{folder.parent.name}.replaced")
    free = next(path for n in range(1, 10_000) if not (path := replaced / f"{folder.name}~{n}").exists())
    replaced.mkdir(parents=True, exist_ok=True)
    return folder.rename(free)


def named_folder(key: str, text: str) -> Path:
    """Return the folder that a Hydra key names; raise UserError for the checkout or a folder above it."""
    if not text.strip():
        raise UserError(f"{key}={text!r} does not name a folder; set {key}=<folder>, or leave it out")
    folder = Path(text).expanduser()
    here = "the current folder" if IS_INSTALLED else "this checkout"
    for home, name in ((ROOT, here), (project(), "your project")):
        if not home.resolve().is_relative_to(folder.resolve()):
            continue
        raise UserError(
            f"{key}={text} is {name} or a folder above it; choose another folder, or leave it out"
        )
    if not IS_INSTALLED and any(folder.resolve().is_relative_to(ROOT / name) for name in _PROJECT_FOLDERS):
        raise UserError(
            f"{key}={text} is in a folder of tempo's own files; set {key}=logs/first, or leave it out"
        )
    return folder


def check_folder(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse to overwrite a run with a result, and to resume one that cannot be resumed.

    Raises:
        UserError: the folder has a run with a result, `init_from` names no run, or see `check_resumable`.
    """
    if config["resume"]:
        return check_resumable(config, folder)
    check_beginning(config)
    if are_foreign():  # resume= of a folder without a record starts its run again
        _check_entries(folder)
    if (folder / FILE_NAME).exists():
        try:
            record = RunRecord.read(folder)
        except RecordLostError:
            if not are_foreign():  # the folder was not named by resume=
                raise
            return None
        if record.finished:
            raise UserError(
                f"{folder} already contains a {record.status} run; choose another folder with "
                "hydra.run.dir=<folder>, or leave it out"
            )
    return None


def check_beginning(config: Mapping[str, Any]) -> None:
    """Raise UserError if `init_from` names neither a checkpoint nor the folder of a run."""
    if not config["init_from"]:
        return
    path = Path(config["init_from"]).expanduser().absolute()
    if path.name == FILE_NAME:
        raise UserError(f"init_from={path} is a record, which holds no weights; set init_from={path.parent}")
    if not path.is_file():
        RunRecord.read(path)


def check_resumable(config: Mapping[str, Any], folder: Path) -> None:
    """Raise UserError if a run has a result, links out of its folder, or a different configuration.

    A run whose record is lost can be resumed from a checkpoint.
    """
    _check_entries(folder)
    try:
        record = RunRecord.read(folder)
    except RecordLostError:
        if not has_checkpoint(folder):
            raise
        return  # a checkpoint has the hash of its configuration
    if record.status == "diverged":
        raise UserError(
            f"{folder} diverged after {record.steps} steps and cannot be resumed; start a new run with a "
            f"smaller optimizer.lr, from the beginning or from its last finite weights: init_from={folder}"
        )
    if record.finished:
        raise UserError(
            f"{folder} is {record.status} after {record.steps} steps, and its schedule ended with it: a run "
            "cannot be extended. Start a new one: from the beginning with another trainer.epochs (leave "
            f"resume= out), from its weights with a new schedule (init_from={folder} scheduler=...), or from "
            f"its weights at its last rate (init_from={folder} scheduler=constant "
            f"optimizer.lr={_last_rate(folder)})"
        )
    now, then = _comparable(config), _comparable(record.config)
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            raise UserError(
                f"{key} was {then.get(key)} when the run began and is now {now.get(key)}, but a resumed run "
                f"keeps its configuration; leave {key} out, or start a new run without resume="
            )


def _check_entries(folder: Path) -> None:
    """Raise UserError if a run that writes in this folder would write out of it, or wait for a pipe."""
    for path in folder.rglob("*"):
        if path.is_symlink() and not _leads_into(path, folder):
            raise UserError(
                f"{path} is a link to itself or out of the run's folder, and a resumed run would write "
                "through it; replace it by the file it points to, or start a new run without resume="
            )
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(
                f"{path} is a pipe, a socket or a device, at which a resumed run could wait for ever; "
                "remove it, or start a new run without resume="
            )


def _leads_into(link: Path, folder: Path) -> bool:
    try:
        return link.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # the link leads to itself
        return False


def _last_rate(folder: Path) -> str:
    try:
        rows = csv.DictReader(read_text(folder / "metrics.csv", MOST_TABLE_BYTES).splitlines())
        return f"{[float(row['lr']) for row in rows if row['lr']][-1]:g}"
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return "<its last rate>"


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    values = flatten(without_newer_keys(config))
    return {key: value for key, value in values.items() if key not in ("resume", "preview")}


def note_folder(folder: Path) -> None:
    """Note which parts of the path to this run's folder do not exist yet; call before Hydra creates them."""
    folder = folder.resolve()
    _missing[folder] = [path for path in (folder, *folder.parents) if not path.exists()]


def noted_folder() -> Path | None:
    """Return the folder of this process's run, or None before the configuration is composed."""
    return next(reversed(_missing), None)


def remove_unused(folder: Path) -> None:
    """Remove the folder of a run that ended before its training began.

    Nothing is removed if the folder existed before, if another process has locked it, or if it has any files
    other than the first files of a run.
    """
    made = _missing.get(folder.resolve())
    if not made:
        return
    found = sorted(folder.rglob("*"), reverse=True)  # a folder's content comes before the folder itself
    files = [path for path in found if path.is_symlink() or not path.is_dir()]
    folders = [path for path in found if path not in files]
    names = [path.relative_to(folder).as_posix() for path in files]
    if _was_refused_by_a_rank(folder):
        names = [name for name in names if not FIRST_FILES_OF_RANKS.fullmatch(name)]
    if not all(map(FIRST_FILES.fullmatch, names)) or not {path.name for path in folders} <= _FIRST_FOLDERS:
        return
    if not _has_our_lock(folder) and not all(map(HYDRAS_FILES.fullmatch, names)):
        return
    with contextlib.suppress(OSError):
        for path in files:
            path.unlink()
        for path in (*folders, *made):
            path.rmdir()


def _was_refused_by_a_rank(folder: Path) -> bool:
    try:
        return "refused" in json.loads(read_text(folder / "ranks" / "error.json"))
    except (OSError, ValueError):
        return False


def _has_our_lock(folder: Path) -> bool:
    try:
        return read_text(folder / LOCK_FILE).strip() == str(os.getpid())
    except (OSError, UnicodeDecodeError):
        return False


def point_latest_at(folder: Path) -> None:
    """Make `logs/latest` a link to the newest run; ignore failures, since it is only a convenience."""
    latest = Path(root("logs", "latest"))
    temporary = latest.with_name(f".latest.{os.getpid()}")
    with contextlib.suppress(OSError):
        if latest.is_symlink() or not latest.exists():
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(folder)
            try:
                temporary.replace(latest)
            finally:  # in a shared folder the link may belong to another user
                temporary.unlink(missing_ok=True)


def named_run(arguments: Sequence[str]) -> list[str]:
    """Rewrite a first argument `<folder>` as `run='<folder>'`, in quotes since sweep folders contain `=`."""
    first, *others = arguments or ("",)
    is_override = re.match(r"[\w.+~]+=", first) and not Path(first).expanduser().exists()
    if not first or first.startswith("-") or is_override:
        return list(arguments)
    return [f"run={quoted(first)}", *others]


def quoted(text: str) -> str:
    """Quote a path so that Hydra's grammar reads it as one value."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
