"""The request to train a run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from tempo.config.schema import RunConfig
from tempo.trainer.optuna_trial import Trial


@dataclass(kw_only=True)
class RunRequest:
    """The configuration of a run, its folder, and the command that chose them."""

    config: RunConfig
    folder: Path
    overrides: list[str]
    choices: dict[str, str]
    started: float = field(default_factory=time.perf_counter)
    """Start of `seconds.total`, on the clock of `time.perf_counter`."""
    trial: Trial | None = None
    """This run's trial in a search; None outside a search."""
    stop_after: int | None = None
    """Number of optimizer steps after which to stop, as a signal would; set to reproduce a stopped run."""
