"""Find where a run starts: at its first step, or at the checkpoint of an interrupted run."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric.utilities.exceptions import MisconfigurationException

from tempo.command_line.system_errors import task_line
from tempo.config.schema import RunConfig
from tempo.errors import UserError
from tempo.record.atomic_write import remove_unfinished
from tempo.record.compare_records import causes
from tempo.record.environment import same_source
from tempo.record.run_folder import check_resumable
from tempo.record.run_json import FILE_NAME, RUN_ID, RecordLostError, RunRecord
from tempo.task.progress import steps_in
from tempo.trainer.checkpoint_file import load
from tempo.trainer.checkpoints import newest_resumable, remove_traces

log = logging.getLogger(__name__)

STATE_ERRORS = (
    AttributeError,
    LookupError,
    MisconfigurationException,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors that Lightning, a network or an optimizer raises if it cannot load a state."""


@dataclass(frozen=True)
class Start:
    """The start of a run; the default is a new run."""

    before: RunRecord | None = None
    """The record of a resumed run, as the previous session left it."""
    checkpoint: Path | None = None
    """The checkpoint to resume from; None also if a resumed run has no usable one and starts again."""
    step: int = 0

    @property
    def seconds(self) -> float:
        """Seconds that earlier sessions of the run took, according to its record."""
        seconds = {} if self.before is None else self.before.seconds
        return max(seconds.get("total", 0.0), seconds.get("startup", 0.0) + seconds.get("train", 0.0))


def prepare_start(config: RunConfig, folder: Path, record: RunRecord, *, is_rank_zero: bool) -> Start:
    """Return where the run starts, and update its record and folder to match.

    Raises:
        UserError: the run in the folder cannot be resumed with this configuration.
    """
    if is_rank_zero:
        remove_unfinished(folder)
    if not config.resume:
        if is_rank_zero:
            remove_traces(folder)  # of an earlier run that ended without a result
        return Start()
    check_resumable(config.values, folder)
    before = _record_before(folder)
    if before is not None:
        record.sessions = [*before.sessions, *record.sessions]
        record.init_from, record.data = before.init_from, before.data
    checkpoint, complaints = newest_resumable(
        folder / "checkpoints",
        record.config_hash,
        run_id=before.run_id if before else "",
        needs_best=config.checkpoint.select == "best",
    )
    for line in complaints:
        log.warning(line)
    if checkpoint is None:
        if before is None:
            raise UserError(
                f"{folder} has neither its {FILE_NAME} nor a usable checkpoint of this configuration; start "
                "a new run without resume="
            )
        return Start(before)
    content = load(checkpoint)
    if before is None:
        record.sessions[0][RUN_ID] = content.get(RUN_ID, "")
    else:  # these values hold until this session writes its first row
        record.steps, record.epochs, record.metrics = before.steps, before.epochs, before.metrics
    return Start(before, checkpoint, steps_in(content))


def _record_before(folder: Path) -> RunRecord | None:
    try:
        return RunRecord.read(folder)
    except RecordLostError as error:
        log.warning("%s; resuming from the checkpoints, without the times of earlier sessions", error)
        return None


def check_same_images(record: RunRecord, sha256: str) -> None:
    """Raise UserError if a resumed run's images are not the ones it started with."""
    if record.data.get("sha256") not in (None, sha256):
        raise UserError(
            f"the data are not those that the run started with (SHA-256 {sha256[:12]}, recorded "
            f"{str(record.data['sha256'])[:12]}); put them back, or start a new run without resume="
        )


def warn_of_changes(start: Start, record: RunRecord) -> None:
    """Log what changed since the previous session: code, versions, threads, machine."""
    before = start.before
    if before is None or "threads" not in before.environment:  # killed before its trainer was built
        return
    for change in changes_between(before, dataclasses.replace(record, sessions=[])):
        log.warning("resumed under different conditions, results may not be bit-identical: %s", change)


def changes_between(before: RunRecord, now: RunRecord) -> list[str]:
    """Return the differences between two runs apart from their results, as lines `name: before -> now`."""
    commits = [str(record.git.get("commit", "")) for record in (before, now)]
    return causes(before, now, same_source=same_source(*commits))


def refuse_state(start: Start, error: Exception) -> None:
    """Raise UserError if a checkpoint does not fit the run; return if memory or a device failed instead."""
    if task_line(error, None) is None:
        raise UserError(
            f"the run cannot continue from {start.checkpoint} ({type(error).__name__}: "
            f"{str(error)[:200]}; HYDRA_FULL_ERROR=1 shows where); remove it to resume from the checkpoint "
            "before it, or start a new run without resume="
        ) from error
