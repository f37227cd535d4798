"""The folder of a run: what it still needs, whether it may be used, taken back when nothing came of it."""

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
from tempo.paths import ROOT
from tempo.record.folder_lock import LOCK_FILE
from tempo.record.run_json import FILE_NAME, RunRecord, flatten

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
SEARCH_FILE = "search.json"
"""Name of a search's results in the folder of its sweep."""
"""The files of `checkpoints/`; a run goes on from the last one, or from the one before it."""
Need = Literal["nothing", "run", "resume"]

# What lies in a folder before the first step: Hydra's files, the first record and its diff, the lock, an
# empty event file.
HYDRAS_FILES = re.compile(r"\.hydra/(config|hydra|overrides)\.yaml|(train|lr_range|tune)\.log")
FIRST_FILES = re.compile(
    rf"{HYDRAS_FILES.pattern}|run\.json|\.run\.json\.\d+\.[0-9a-f]{{4}}|\.lock|git(_[0-9a-f]{{12}})?\.diff"
    r"|tensorboard/(hparams\.yaml|events\.out\.tfevents\.[^/]+)"
)
# A group whose rank refused its job has said why; other logs of ranks are what an error message points at.
FIRST_FILES_OF_RANKS = re.compile(r"job\.json|ranks/(rank\d+\.log|torchrun\.log|error\.json)")
_FIRST_FOLDERS = {".hydra", "checkpoints", "ranks", "tensorboard"}
_missing: dict[Path, list[Path]] = {}


def readable_record(folder: Path) -> RunRecord | None:
    """The record of a run's folder; None where there is none, or none that can be read."""
    try:
        return RunRecord.read(folder)
    except UserError:
        return None


def need_of(folder: Path, config_hash: str) -> Need:
    """What a run of this configuration still needs, given that no process is at work on it.

    Nothing, where it came to a result; the rest, where it was cut or has failed after a checkpoint; else all.
    """
    record = readable_record(folder)
    if record is None or record.config_hash != config_hash:
        return "run"
    if record.finished:
        return "nothing"
    return "resume" if any((folder / "checkpoints" / name).exists() for name in (LAST, PREVIOUS)) else "run"


def move_aside(folder: Path) -> Path:
    """Rename a folder to `<parent>.replaced/<name>~<n>` for the first free n; where it is now."""
    beside = folder.parent.with_name(f"{folder.parent.name}.replaced")
    kept = next(each for n in range(1, 10_000) if not (each := beside / f"{folder.name}~{n}").exists())
    beside.mkdir(parents=True, exist_ok=True)
    return folder.rename(kept)


def named_folder(key: str, text: str) -> Path:
    """The folder that a key of Hydra's names; UserError where nothing may be strewn over what lies there."""
    if not text.strip():
        raise UserError(f"{key}={text!r} names no folder: {key}=<folder>, or leave it out")
    folder = Path(text).expanduser()
    if ROOT.is_relative_to(folder.resolve()):
        raise UserError(
            f"{key}={text} holds this checkout and more: name a folder of its own, or leave it out"
        )
    return folder


def check_folder(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse to write over a run that is over, and to resume one that cannot be.

    Raises:
        UserError: the folder holds a completed or diverged run; there is none where `init_from` says; or see
            `check_resumable`.
    """
    if config["resume"]:
        return check_resumable(config, folder)
    check_beginning(config)
    if (folder / FILE_NAME).exists():
        record = RunRecord.read(folder)
        if record.finished:
            raise UserError(
                f"{folder} holds a run that is {record.status}: choose another folder with "
                "hydra.run.dir=<folder>, or leave it out"
            )
    return None


def check_beginning(config: Mapping[str, Any]) -> None:
    """UserError where `init_from` names neither a checkpoint nor the folder of a run."""
    if config["init_from"] and not Path(config["init_from"]).expanduser().is_file():
        RunRecord.read(Path(config["init_from"]).expanduser().absolute())


def check_resumable(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with a run that is over, or under another configuration.

    Raises:
        UserError: the run is completed, or a key differs from the record's.
    """
    record = RunRecord.read(folder)
    for path in folder.rglob("*"):
        if path.is_symlink() and not _leads_into(path, folder):
            raise UserError(
                f"{path} is a link out of the run's folder or to itself, where a resumed run would write: "
                "put what it leads to in its place, or start a new run without resume="
            )
    if record.status == "diverged":
        raise UserError(
            f"{folder} is diverged after {record.steps} steps: there is nothing to resume. Start a new run "
            "with a smaller optimizer.lr, from the beginning or from its last finite weights: "
            f"init_from={folder}"
        )
    if record.finished:
        raise UserError(
            f"{folder} is completed after {record.steps} steps, and its schedule with it: a run is neither "
            "extended nor shortened. Start a new one: from the beginning with another trainer.epochs (leave "
            "resume= out), or from its weights with a schedule of its own "
            f"(init_from={folder} scheduler=...), or from its weights at its last rate "
            f"(init_from={folder} scheduler=constant optimizer.lr={_last_rate(folder)})"
        )
    now, then = _comparable(config), _comparable(record.config)
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            raise UserError(
                f"{key}={now.get(key)} now, {key}={then.get(key)} when the run began: a resumed run keeps "
                f"its configuration; leave {key} out, or start a new run without resume="
            )


def _leads_into(link: Path, folder: Path) -> bool:
    try:
        return link.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def _last_rate(folder: Path) -> str:
    try:
        with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            return f"{[float(row['lr']) for row in csv.DictReader(file) if row['lr']][-1]:g}"
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return "<its last rate>"


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(config).items() if key not in ("resume", "preview")}


def note_folder(folder: Path) -> None:
    """Keep in mind, before Hydra makes it, what of the path to this process's run is not there yet."""
    folder = folder.resolve()
    _missing[folder] = [each for each in (folder, *folder.parents) if not each.exists()]


def noted_folder() -> Path | None:
    """The folder of this process's run; None before the configuration was composed."""
    return next(reversed(_missing), None)


def remove_unused(folder: Path) -> None:
    """Take back the folder of a run that ended before its training began.

    Only what this process has made: nothing where the folder was there before, where another process holds
    it, or where it has anything but the first files of a run.
    """
    made = _missing.get(folder.resolve())
    if not made:
        return
    found = sorted(folder.rglob("*"), reverse=True)  # what is in a folder before the folder
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
        return "refused" in json.loads((folder / "ranks" / "error.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _has_our_lock(folder: Path) -> bool:
    try:
        return (folder / LOCK_FILE).read_text(encoding="utf-8").strip() == str(os.getpid())
    except (OSError, UnicodeDecodeError):
        return False


def point_latest_at(folder: Path) -> None:
    """Make `logs/latest` a link to the newest run; a convenience, so what goes wrong is passed over."""
    latest = ROOT / "logs" / "latest"
    beside = latest.with_name(f".latest.{os.getpid()}")
    with contextlib.suppress(OSError):
        if latest.is_symlink() or not latest.exists():
            beside.unlink(missing_ok=True)
            beside.symlink_to(folder)
            try:
                beside.replace(latest)
            finally:  # another user's link in a folder for all is not ours to replace
                beside.unlink(missing_ok=True)


def named_run(arguments: Sequence[str]) -> list[str]:
    """A first `<folder>` as `run='<folder>'`; the folders of a sweep have `=` in their names too."""
    first, *others = arguments or ("",)
    is_override = re.match(r"[\w.+~]+=", first) and not Path(first).expanduser().exists()
    if not first or first.startswith("-") or is_override:
        return list(arguments)
    return [f"run={quoted(first)}", *others]


def quoted(text: str) -> str:
    """A folder, or a part of its name, as one value of Hydra's grammar, whatever stands in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
