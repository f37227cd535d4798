"""What did not come to a good end, and the command that runs it again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tempo.paths import ROOT
from tempo.report.load_runs import Collection, Run, Unreadable
from tempo.report.number_format import shortened

REASON_LENGTH = 400


@dataclass(frozen=True)
class Failure:
    """One run that has no result that counts; `again` is empty where its command is not known."""

    folder: Path
    status: str
    reason: str
    again: str


def failures(found: Collection) -> list[Failure]:
    """Diverged, failed, cut and unfinished runs, then the folders that could not be read."""
    order = ("failed", "diverged", "interrupted", "running")
    runs = [run for status in order for run in found.runs if run.record.status == status]
    listed = [Failure(run.folder, run.record.status, _reason(run), run.again) for run in runs]
    return listed + [
        Failure(each.folder, "not readable", _within(each), each.again) for each in found.unreadable
    ]


def said_path(folder: Path) -> str:
    """As one types it in the repository; whole where it lies elsewhere."""
    return os.path.relpath(folder, ROOT) if folder.is_relative_to(ROOT) else str(folder)


def environment(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, int]]]]:
    """What the runs ran on: each item with its distinct values and the number of runs of each."""
    items: dict[str, dict[str, int]] = {}
    for run in runs:
        for name, value in _environment_of(run).items():
            counts = items.setdefault(name, {})
            counts[value] = counts.get(value, 0) + 1
    return [(name, sorted(counts.items(), key=lambda each: -each[1])) for name, counts in items.items()]


def _within(lost: Unreadable) -> str:
    """Why, without the path that stands beside it anyway."""
    return lost.why.replace(f"{lost.folder}{os.sep}", "").replace(f"{lost.folder} ", "the folder ")


def _reason(run: Run) -> str:
    record = run.record
    if record.status == "running":
        default = f"no end recorded: still at work, or killed after step {record.steps}"
    else:
        default = f"at step {record.steps}"
    return shortened(" ".join(record.reason.split()) or default, REASON_LENGTH)


def _environment_of(run: Run) -> dict[str, str]:
    record = run.record
    commit = str(record.git.get("commit") or "unknown")
    changed = " with uncommitted changes" if record.git.get("dirty") else ""
    data = record.data
    sizes = ", ".join(
        f"{data[each]} {each}" for each in ("train", "val", "test") if data.get(each) is not None
    )
    return {
        "device": record.device or "unknown",
        "processes": str(record.world_size),
        "commit": commit + changed,
        "data": f"{data.get('name', 'unknown')} ({sizes}; sha256 {str(data.get('sha256', 'unknown'))[:16]})",
        "parameters": f"{record.parameters.get('total', 'unknown')}",
        **{name: str(version) for name, version in sorted(record.versions.items())},
    }
