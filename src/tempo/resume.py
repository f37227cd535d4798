"""Whether a run may go on in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tempo.config import Config
from tempo.errors import UserError
from tempo.record import RunRecord, flatten


def check_resumable(config: Config, folder: Path) -> None:
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


def _comparable(config: Config) -> dict[str, Any]:
    return {key: value for key, value in flatten(config).items() if key not in ("resume", "preview")}
