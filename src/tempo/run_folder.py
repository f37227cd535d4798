"""The folder of a run: whether it may be used, taken back when nothing came of it, pointed at when newest."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.record import FILE_NAME, RunRecord, flatten


def check_folder(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse to write over a run that is over, and to resume one that cannot be.

    Raises:
        UserError: the folder holds a completed or diverged run, or see `check_resumable`.
    """
    if config["resume"]:
        check_resumable(config, folder)
    elif (folder / FILE_NAME).exists():
        record = RunRecord.read(folder)
        if record.finished:
            raise UserError(
                f"{folder} holds a run that is {record.status}: choose another folder with "
                "hydra.run.dir=<folder>, or leave it out"
            )


def check_resumable(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with a run that is over, or under another configuration.

    Raises:
        UserError: the run is completed, or a key differs from the record's.
    """
    record = RunRecord.read(folder)
    if record.finished:
        raise UserError(
            f"{folder} is {record.status} after {record.steps} steps: there is nothing to resume. "
            "To train longer, start a new run with a larger trainer.epochs"
        )
    now, then = _comparable(config), _comparable(record.config)
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            raise UserError(
                f"{key}={now.get(key)} now, {key}={then.get(key)} when the run began: a resumed run keeps "
                f"its configuration; leave {key} out, or start a new run without resume="
            )


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(config).items() if key not in ("resume", "preview")}


def remove_unused(folder: Path) -> None:
    """Take back the folder of a run that ended before its training began."""
    if not any((folder / "checkpoints").glob("*.ckpt")) and not (folder / "metrics.csv").exists():
        shutil.rmtree(folder, ignore_errors=True)


def point_latest_at(folder: Path) -> None:
    """Make `logs/latest` a link to the newest run; a convenience, so what goes wrong is passed over."""
    latest = ROOT / "logs" / "latest"
    beside = latest.with_name(f".latest.{os.getpid()}")
    with contextlib.suppress(OSError):
        if latest.is_symlink() or not latest.exists():
            beside.symlink_to(folder)
            beside.replace(latest)
