"""The state of a finished run that its test looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tempo.config.check import select
from tempo.errors import UserError
from tempo.record.run_folder import BEST, LAST
from tempo.record.run_json import RunRecord
from tempo.trainer.checkpoint_file import load

_AVERAGED, _TRAINED = "averaged.module.", "network."


def tested_checkpoint(folder: Path, record: RunRecord) -> Path:
    """The checkpoint that was chosen for the test."""
    best = folder / "checkpoints" / BEST
    chosen = select(record.config, "checkpoint").get("select", "best")
    try:
        return best if chosen == "best" and best.exists() else best.with_name(LAST)
    except PermissionError as error:
        raise UserError(f"{best.parent} cannot be read: {error.strerror}; check its permissions") from error


def tested_weights(folder: Path, record: RunRecord) -> dict[str, Any]:
    """State dict of the tested network alone: the averaged one where the run kept an average.

    Raises:
        UserError: the checkpoint is missing or damaged.
    """
    return network_weights(tested_checkpoint(folder, record))


def network_weights(checkpoint: Path) -> dict[str, Any]:
    """State dict of a checkpoint's network alone: the averaged one where the run kept an average."""
    state = load(checkpoint)["state_dict"]
    prefix = _AVERAGED if any(name.startswith(_AVERAGED) for name in state) else _TRAINED
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
