"""The folder of a run: taken back when nothing came of it, pointed at when it is the newest."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from tempo.paths import ROOT


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
